"""How full the app's queues and poison queues are, and the way back out of the latter.

The host sets a message aside after too many tries; it lies in the poison queue until somebody
says that its cause is gone.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from finetune_wandb.clients.http import Answer, Http
from finetune_wandb.clients.storage.auth import StorageAuth
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.translate import translated
from finetune_wandb.model.errors import MissingError, UnavailableError
from finetune_wandb.model.queues import QueueCount

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

_SERVICE: Final = "Queue storage"
_BATCH: Final = 32
_HIDE_S: Final = 300


class QueueStats:
    """QueueStatsPort over Azure Storage queues."""

    def __init__(self, storage: Storage, names: Sequence[str]) -> None:
        self._storage = storage
        self._names = names
        self._auth = StorageAuth(storage, "queue")
        self._http = Http(storage.transport, _SERVICE)

    async def counts(self) -> list[QueueCount]:
        """Return the counts of every queue, in the order of their names' list."""
        names = [*self._names, *(f"{name}-poison" for name in self._names)]
        found = dict(zip(names, await asyncio.gather(*map(self._count, names)), strict=True))
        return [QueueCount(name, found[name], found[f"{name}-poison"]) for name in self._names]

    async def requeue(self) -> int:
        """Put what was set aside back on its queue, as it was; return how many messages.

        A message is sent before it is removed: after a crash it is worked on twice, not never.
        """
        moved = 0
        for name in self._names:
            moved += await self._move(f"{name}-poison", name)
        return moved

    async def _count(self, name: str) -> int:
        # The queues' SDK takes longer to import than the whole of a first status answer may.
        url = f"{self._auth.endpoint}/{name}?comp=metadata"
        headers = await self._auth.headers("GET", url)
        try:
            return await self._http.request("GET", url, _messages, headers=headers, subject=name)
        except MissingError:
            return 0

    async def _move(self, source: str, target: str) -> int:
        # What fails again meanwhile comes back to the same queue: only as many as there are now.
        left = await self._count(source)
        moved = 0
        while left > 0:
            with translated(source, _SERVICE):
                batch = [
                    message
                    async for message in self._queue(source).receive_messages(
                        max_messages=min(left, _BATCH), visibility_timeout=_HIDE_S
                    )
                ][:_BATCH]
                if not batch:
                    break
                for message in batch:
                    await self._queue(target).send_message(message.content, time_to_live=-1)
                    await self._queue(source).delete_message(message)
            moved += len(batch)
            left -= len(batch)
        return moved

    def _queue(self, name: str) -> "QueueClient":
        # Messages are moved as they are, whatever their encoding.
        return self._storage.plain_queue(name)


def _messages(answer: Answer) -> int:
    count = answer.headers.get("x-ms-approximate-messages-count", "")
    if not count.isdecimal():
        raise UnavailableError("Queue storage answered no count", code="NoCount")
    return int(count)
