"""Resources by id, without regard to case, listed in order of id and page by page."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator


class Shelf[T]:
    """Items by resource id. A list of a subscription or a group is a range of ids."""

    def __init__(self) -> None:
        self._items: dict[str, T] = {}
        self._keys: list[str] = []

    def get(self, resource_id: str) -> T | None:
        return self._items.get(resource_id.lower())

    def put(self, resource_id: str, item: T) -> None:
        key = resource_id.lower()
        if key not in self._items:
            insort(self._keys, key)
        self._items[key] = item

    def remove(self, resource_id: str) -> T | None:
        """Take the item off and return it, or None when there was none."""
        key = resource_id.lower()
        item = self._items.pop(key, None)
        if item is not None:
            del self._keys[bisect_left(self._keys, key)]
        return item

    def page(self, scope: str, after: str | None, size: int) -> tuple[list[T], str | None]:
        """Return up to `size` items below a scope, and the token of the next page or None.

        The token is the last id of this page, so items that come or go do not shift pages.
        """
        prefix = scope.lower().rstrip("/") + "/"
        if after is None or after < prefix:
            start = bisect_left(self._keys, prefix)
        else:
            start = bisect_right(self._keys, after)
        found: list[T] = []
        for index in range(start, len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                break
            if len(found) == size:
                return found, self._keys[index - 1]
            found.append(self._items[key])
        return found, None

    def __iter__(self) -> Iterator[T]:
        """Iterate in order of id."""
        return (self._items[key] for key in self._keys)
