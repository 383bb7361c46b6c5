"""Table `resyncs`: one partition a re-sync, its head and one row an item.

Progress is counted from the items, never kept as a number: a message that is worked on twice
writes the same row twice.
"""

from typing import Any, Final

from clients.json_rows import JsonRows
from clients.storage import Storage
from model.resync import Resync, ResyncItem, resync_from_json, to_json

TABLE: Final = "resyncs"
_HEAD: Final = "-head"
_RUNNING: Final = "-running"


class ResyncTable:
    """ResyncPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, TABLE)

    async def write(self, resync: Resync) -> None:
        await self._rows.put(resync.id, _HEAD, {"kind": "head", **to_json(resync)})

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None:
        """Return a re-sync and its items by name, or None."""
        head: Resync | None = None
        items: list[ResyncItem] = []
        async for row in self._rows.rows(resync_id):
            kind = row.pop("kind")
            if kind == "head":
                head = resync_from_json(row)
            elif kind == "item":
                items.append(ResyncItem(**row))
        return (head, sorted(items, key=lambda item: item.name)) if head else None

    async def add_item(self, resync_id: str, item: ResyncItem) -> None:
        """Add an item; one that is there already keeps its progress."""
        await self._rows.add(resync_id, item.name, {"kind": "item", **to_json(item)})

    async def write_item(self, resync_id: str, item: ResyncItem) -> None:
        await self._rows.put(resync_id, item.name, {"kind": "item", **to_json(item)})

    async def running(self, fingerprint: str) -> str:
        """Return the id of the latest re-sync of this request, empty for none."""
        row: dict[str, Any] | None = await self._rows.get(_RUNNING, fingerprint)
        return str(row["id"]) if row else ""

    async def set_running(self, fingerprint: str, resync_id: str) -> None:
        await self._rows.put(_RUNNING, fingerprint, {"kind": "running", "id": resync_id})
