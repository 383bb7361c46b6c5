"""A table's rows kept in the process, brought up to date by what changed since the last look.

Reading 5,000 rows costs the tables' SDK most of a second; asking for the rows that changed since
then costs one request. Every answer is as fresh as a full read: nothing is served from memory
without asking. Rows that somebody removed by hand are noticed within the hour.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clients.storage import Storage
from clients.translate import translated

_SERVICE: Final = "Table storage"
_MARGIN: Final = timedelta(seconds=30)
"""The servers of one table stamp rows by their own clocks."""
_WHOLE_S: Final = 3600.0


class TableMirror[T]:
    """One table. `parse` makes of a row what is kept, None for rows that are of no interest."""

    def __init__(
        self,
        storage: Storage,
        table: str,
        parse: Callable[[Any], T | None],
        *,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._storage = storage
        self._table = table
        self._parse = parse
        self._columns = [*columns, "PartitionKey", "RowKey", "Timestamp"] if columns else None
        self._rows: dict[tuple[str, str], tuple[str, T]] = {}
        """Etag and value by key."""
        self._newest: datetime | None = None
        self._whole_at = 0.0
        self._lock = asyncio.Lock()

    async def values(self) -> list[T]:
        """Return every row as it is now, in no order. Raises our errors."""
        async with self._lock:
            if self._newest is None or time.monotonic() - self._whole_at > _WHOLE_S:
                await self._read_whole()
            else:
                await self._read_since(self._newest - _MARGIN)
            return [value for _, value in self._rows.values()]

    async def _read_whole(self) -> None:
        table = await self._storage.table(self._table)
        self._rows, self._newest = {}, None
        newest = datetime(2000, 1, 1, tzinfo=UTC)
        with translated(self._table, _SERVICE):
            async for row in table.list_entities(select=self._columns, results_per_page=1000):
                newest = max(newest, self._take(row))
        self._newest, self._whole_at = newest, time.monotonic()

    async def _read_since(self, moment: datetime) -> None:
        table = await self._storage.table(self._table)
        newest = self._newest
        assert newest is not None
        with translated(self._table, _SERVICE):
            async for row in table.query_entities(
                "Timestamp ge @moment", parameters={"moment": moment}, select=self._columns
            ):
                newest = max(newest, self._take(row))
        self._newest = newest

    def _take(self, row: Any) -> datetime:
        key, etag = (row["PartitionKey"], row["RowKey"]), row.metadata["etag"]
        known = self._rows.get(key)
        # A row that did not change stays the same object: what was made of it stays good.
        if known is None or known[0] != etag:
            value = self._parse(row)
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = (etag, value)
        stamp: datetime = row.metadata["timestamp"]
        return stamp
