"""A cache with one reader per key; other callers wait for that reader.

Failures are not cached. An answer that was replaced while it was read is not returned: it may be
the older of the two.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry[T]:
    asked_at: float
    answer: asyncio.Future[T]
    replaced: bool = False
    """Whether a later answer replaced it while it was read."""


class SingleFlight[K: Hashable, T]:
    """Keeps the `most` answers that were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, _Entry[T]] = OrderedDict()

    async def get(
        self,
        key: K,
        read: Callable[[], Awaitable[T]],
        *,
        now: float = 0.0,
        fresh: Callable[[float], bool] = lambda asked_at: True,
        keep: Callable[[T], bool] = lambda answer: True,
    ) -> T:
        """Return the cached answer if `fresh` accepts the time of its request, else `read` it.

        An answer counts as requested at `now`, in a unit of the caller's choice. One that `keep`
        refuses still serves the callers that wait for it.
        """
        waited = False
        while True:
            entry = self._entries.get(key)
            # What replaced an awaited answer was begun later, so it is returned; otherwise
            # two callers that accept nothing cached would replace each other's answers for ever.
            if entry is None or entry.answer.cancelled() or not (waited or fresh(entry.asked_at)):
                entry = _Entry(now, asyncio.ensure_future(read()))
                self._replace(key, entry)
            self._entries.move_to_end(key)
            try:
                # A cancelled caller must not cancel the others' answer.
                answer = await asyncio.shield(entry.answer)
            except Exception:  # raised to the caller; a failure is not cached
                self._drop(key, entry)
                raise
            waited = True
            if not keep(answer):
                self._drop(key, entry)
            if not entry.replaced:
                return answer

    def put(self, key: K, answer: T, now: float) -> None:
        """Cache an answer of the caller, in place of any that is cached or being read."""
        known: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        known.set_result(answer)
        self._replace(key, _Entry(now, known))

    def amend(self, key: K, change: Callable[[T], T]) -> None:
        """Update a cached answer after a write of the caller.

        An answer that is still being read is read again: it may not include the write.
        """
        entry = self._entries.get(key)
        if entry is None:
            return
        answer = entry.answer
        if answer.done() and not answer.cancelled() and not answer.exception():
            self.put(key, change(answer.result()), entry.asked_at)
        else:
            entry.replaced = True
            self._drop(key, entry)

    def _replace(self, key: K, entry: _Entry[T]) -> None:
        if before := self._entries.get(key):
            before.replaced = True
        self._entries[key] = entry
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def _drop(self, key: K, entry: _Entry[T]) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]
