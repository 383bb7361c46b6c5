"""A table's rows kept in the process, brought up to date by what changed since the last look.

Reading 5,000 rows costs the tables' SDK most of a second; asking for the rows that changed since
then costs one request. Every answer is as fresh as a full read: nothing is served from memory
without asking. Rows that somebody removed by hand are noticed within the hour.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from finetune_wandb.clients.storage.table_wire import TableWire

MARGIN: Final = timedelta(seconds=30)
"""The servers of one table stamp rows by their own clocks, and a write takes a moment."""
_WHOLE_S: Final = 3600.0


class TableMirror[T]:
    """One table. `parse` makes of a row what is kept, None for rows that are of no interest."""

    def __init__(
        self,
        wire: TableWire,
        table: str,
        parse: Callable[[dict[str, Any]], T | None],
        *,
        columns: Sequence[str] = (),
        margin: timedelta = MARGIN,
    ) -> None:
        self._wire = wire
        self._table = table
        self._parse = parse
        self._margin = margin
        self._columns = (*columns, "PartitionKey", "RowKey") if columns else ()
        self._rows: dict[tuple[str, str], tuple[str, T]] = {}
        """Etag and value by key."""
        self._read_at: datetime | None = None
        """When the last look began, by the service's clock."""
        self._whole_at = 0.0
        self._lock = asyncio.Lock()

    async def values(self) -> list[T]:
        """Return every row as it is now, in no order. Raises our errors."""
        async with self._lock:
            if self._read_at is None or time.monotonic() - self._whole_at > _WHOLE_S:
                self._rows, self._read_at = {}, None
                await self._read(None)
                self._whole_at = time.monotonic()
            else:
                await self._read(self._read_at - self._margin)
            return [value for _, value in self._rows.values()]

    async def _read(self, since: datetime | None) -> None:
        """Take in the rows that were written since then, or all of them."""
        where = f"Timestamp ge datetime'{since:%Y-%m-%dT%H:%M:%S}Z'" if since else ""
        began = ""
        async for page in self._wire.pages(self._table, where, columns=self._columns):
            began = began or page.date
            for row in page.rows:
                self._take(row)
        if began:
            self._read_at = parsedate_to_datetime(began)

    def _take(self, row: dict[str, Any]) -> None:
        key, etag = (row["PartitionKey"], row["RowKey"]), row["odata.etag"]
        known = self._rows.get(key)
        # A row that did not change stays the same object: what was made of it stays good.
        if known is None or known[0] != etag:
            value = self._parse(row)
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = (etag, value)
