"""A cache with one reader per key; everyone who asks meanwhile waits for that reader.

What failed is not kept. An answer that was replaced while it was read is not handed out: it may
be the older of the two.
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
    """Whether a later answer took its place while it was read."""


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
        """Return the kept answer where `fresh` takes the time it was asked for at, else `read` it.

        An answer counts as asked for at `now`, in whatever unit the caller chooses. One that
        `keep` refuses serves those who wait for it already.
        """
        waited = False
        while True:
            entry = self._entries.get(key)
            # What took the place of an answer that was waited for was begun later: it is taken, or
            # two callers for whom nothing is fresh replace each other's for ever.
            if entry is None or entry.answer.cancelled() or not (waited or fresh(entry.asked_at)):
                entry = _Entry(now, asyncio.ensure_future(read()))
                self._replace(key, entry)
            self._entries.move_to_end(key)
            try:
                # One caller that is cancelled must not take the others' answer away.
                answer = await asyncio.shield(entry.answer)
            except Exception:  # raised on: only what failed must not be kept
                self._drop(key, entry)
                raise
            waited = True
            if not keep(answer):
                self._drop(key, entry)
            if not entry.replaced:
                return answer

    def put(self, key: K, answer: T, now: float) -> None:
        """Keep an answer that the caller knows, in place of any that is read or kept."""
        known: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        known.set_result(answer)
        self._replace(key, _Entry(now, known))

    def amend(self, key: K, change: Callable[[T], T]) -> None:
        """Bring a kept answer up to date with a write of the caller's own.

        One that is still being read is read again: whether it saw the write is unknown.
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
