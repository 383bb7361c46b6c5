"""Table `resyncs`: one partition a re-sync, its head and one row an item.

Progress is counted from the items, never kept as a number: a message that is worked on twice
writes the same row twice. One more row for each kind of request names its latest re-sync.
"""

import contextlib
from dataclasses import asdict, replace
from typing import Any, Final

import msgspec
import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import JsonRows
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.resync import Resync, ResyncItem

TABLE: Final = "resyncs"
_HEAD: Final = "-head"
_RUNNING: Final = "-running"
_TOO_LONG: Final = 30_000
"""Characters that an item's results may take; a text column holds 32 Ki of them."""


class ResyncTable:
    """Re-syncs and their items."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, TABLE)

    async def write(self, resync: Resync) -> None:
        await self._rows.put(resync.id, _HEAD, {"kind": "head", **asdict(resync)})

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None:
        """Return a re-sync and its items by name, or None."""
        head: Resync | None = None
        items: list[ResyncItem] = []
        async for row in self._rows.rows(resync_id):
            if row["kind"] == "head":
                head = msgspec.convert(row, Resync)
            elif row["kind"] == "item":
                items.append(msgspec.convert(row, ResyncItem))
        return (head, sorted(items, key=lambda item: item.name)) if head else None

    async def read_head(self, resync_id: str) -> Resync | None:
        """Return what was asked for, without the items."""
        row = await self._rows.read(resync_id, _HEAD)
        return msgspec.convert(row.data, Resync) if row else None

    async def remove(self, resync_id: str) -> None:
        """Forget a re-sync with all its items."""
        found = await self.read(resync_id)
        for item in found[1] if found else ():
            await self._rows.delete(resync_id, item.name)
        await self._rows.delete(resync_id, _HEAD)

    async def read_item(self, resync_id: str, name: str) -> ResyncItem | None:
        row = await self._rows.read(resync_id, name)
        return msgspec.convert(row.data, ResyncItem) if row else None

    async def add_item(self, resync_id: str, item: ResyncItem) -> None:
        """Add an item; one that is there already keeps its progress."""
        with contextlib.suppress(ConflictError):
            await self._rows.write(resync_id, item.name, _row(item), None)

    async def write_item(self, resync_id: str, item: ResyncItem) -> None:
        await self._rows.put(resync_id, item.name, _row(item))

    async def remove_item(self, resync_id: str, name: str) -> None:
        await self._rows.delete(resync_id, name)

    async def running(self, fingerprint: str) -> str:
        """Return the id of the latest re-sync of this request, empty for none."""
        row = await self._rows.read(_RUNNING, fingerprint)
        return str(row.data["id"]) if row else ""

    async def claim(self, fingerprint: str, resync: Resync, *, instead_of: str) -> str:
        """Make a re-sync the latest of its request and remove its predecessor, unless another
        one became the latest meanwhile. Return the id of the latest one."""
        row = {
            "kind": "running",
            "id": resync.id,
            "created_at": resync.created_at,
            "fingerprint": fingerprint,
        }
        known = await self._rows.read(_RUNNING, fingerprint)
        if (known.data["id"] if known else "") != instead_of:
            return await self.running(fingerprint)
        try:
            await self._rows.write(_RUNNING, fingerprint, row, known)
        except ConflictError:
            return await self.running(fingerprint)
        if instead_of:
            await self.remove(instead_of)
        return resync.id

    async def latest(self) -> list[tuple[str, float]]:
        """Return id and time (unix seconds) of the latest re-sync of each request, newest first."""
        found = [(row["id"], row["created_at"]) async for row in self._rows.rows(_RUNNING)]
        return sorted(found, key=lambda pair: pair[1], reverse=True)

    async def purge(self, before: float) -> None:
        """Remove the re-syncs that were requested before this time (unix seconds)."""
        async for row in self._rows.rows(_RUNNING):
            if row["created_at"] < before:
                await self.remove(row["id"])
                await self._rows.delete(_RUNNING, row["fingerprint"])


def _row(item: ResyncItem) -> dict[str, Any]:
    results = item.results
    while results and len(orjson.dumps(results)) > _TOO_LONG:
        results = results[:-1]
    return {"kind": "item", **asdict(replace(item, results=results))}
