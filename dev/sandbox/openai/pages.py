"""A list of JSON objects served newest first, page by page, from bytes made once.

Decides where a page starts and ends. It knows nothing of jobs or of HTTP: whoever fills it
decides what the items are and in which order they were made.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: items newest first, each serialised, and whether older ones follow."""

    items: list[bytes]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Pages:
    """Items in the order they were made; ids may repeat or be absent."""

    __slots__ = ("_first", "_ids", "_raw")

    def __init__(self) -> None:
        self._raw: list[bytes] = []
        self._ids: list[str | None] = []
        # The oldest place of an id: in the order served, its last occurrence.
        self._first: dict[str, int] = {}

    @classmethod
    def newest_first(cls, items: Iterable[dict[str, Any]]) -> Self:
        """Make a list that serves the items in exactly the order given."""
        pages = cls()
        for item in reversed(list(items)):
            pages.append(item)
        return pages

    def __len__(self) -> int:
        return len(self._raw)

    def append(self, item: dict[str, Any], *, newer: int = 0) -> None:
        """Add an item, the newest but for the `newer` last ones, whose ids are unique."""
        found = item.get("id")
        identifier = found if isinstance(found, str) else None
        place = len(self._raw) - newer
        for moved in self._ids[place:]:
            if moved is not None:
                self._first[moved] += 1
        if identifier is not None:
            self._first.setdefault(identifier, place)
        self._ids.insert(place, identifier)
        self._raw.insert(place, orjson.dumps(item))

    def page(self, after: str | None, limit: int) -> Page:
        """Return up to `limit` items older than the last occurrence of id `after`.

        A page grows until its last item is one that the next page can start after: it has an
        id, and no older item repeats that id. So following `after` always progresses and never
        skips. Raises KeyError when no item has the id `after`.
        """
        high = len(self._raw) if after is None else self._first[after]
        low = max(0, high - limit)
        while 0 < low < high:
            identifier = self._ids[low]
            if identifier is None:
                low -= 1
            elif self._first[identifier] < low:
                low = self._first[identifier]
            else:
                break
        ids = self._ids
        return Page(
            items=self._raw[low:high][::-1],
            has_more=low > 0,
            first_id=ids[high - 1] if high > low else None,
            last_id=ids[low] if high > low else None,
        )

    def everything(self) -> bytes:
        """Return all items as one JSON array, in the order served."""
        return b"[" + b",".join(reversed(self._raw)) + b"]"
