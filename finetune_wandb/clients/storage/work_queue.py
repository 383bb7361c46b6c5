"""Messages on the app's two queues, as the host's queue triggers read them."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.translate import translated

RECONCILE: Final = "reconcile-accounts"
RELAY: Final = "relay-jobs"
ARTIFACTS: Final = "job-artifacts"
_AT_ONCE: Final = 16


class WorkQueue:
    """WorkPort over Azure Storage queues."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name

    async def send(self, messages: Iterable[dict[str, Any]], *, delay_s: float = 0) -> None:
        """Send each message; visible after `delay_s` seconds (at most seven days)."""
        queue = await self._storage.queue(self._name)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(message: dict[str, Any]) -> None:
            async with limit:
                await queue.send_message(
                    orjson.dumps(message).decode(),
                    visibility_timeout=int(delay_s) or None,
                    # A message is work: it ends by being done or in the poison queue, not by age.
                    time_to_live=-1,
                )

        with translated(self._name, "Queue storage"):
            await asyncio.gather(*(one(message) for message in messages))
