"""A cache with one reader per key; everyone who asks meanwhile waits for that reader.

What failed is not kept. An answer that was replaced while it was read is not handed out: it may be the
older of the two.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry[T]:
    asked_at: float
    answer: asyncio.Future[T]


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
    ) -> T:
        """Return the kept answer where `fresh` takes the time it was asked for at, else `read` it.

        An answer counts as asked for at `now`, in whatever unit the caller chooses.
        """
        while True:
            entry = self._entries.get(key)
            if entry is None or entry.answer.cancelled() or not fresh(entry.asked_at):
                entry = _Entry(now, asyncio.ensure_future(_run(read)))
                self._entries[key] = entry
                if len(self._entries) > self._most:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(key)
            try:
                # One caller that is cancelled must not take the others' answer away.
                answer = await asyncio.shield(entry.answer)
            except Exception:  # raised on: only what failed must not be kept
                if self._entries.get(key) is entry:
                    del self._entries[key]
                raise
            if self._entries.get(key) is entry:
                return answer

    def put(self, key: K, answer: T, now: float) -> None:
        """Keep an answer that the caller knows, in place of any that is read or kept."""
        known: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        known.set_result(answer)
        self._entries[key] = _Entry(now, known)


async def _run[T](read: Callable[[], Awaitable[T]]) -> T:
    return await read()
