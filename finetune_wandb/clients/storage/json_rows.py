"""Rows of small tables: keys to search by, and one JSON column with the rest."""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table

_PLAIN: Final = re.compile(r"^[A-Za-z0-9_.|-]{1,400}$")


def table_key(text: str) -> str:
    """Return text as a table key: itself with `/` as `|`, or a hash where that cannot be."""
    plain = text.replace("/", "|")
    if _PLAIN.fullmatch(plain):
        return plain
    return "h-" + hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class JsonRow:
    """A stored row's data, and the version to write over."""

    data: dict[str, Any]
    etag: str


class JsonRows:
    """One table. Every method raises our errors."""

    def __init__(self, storage: Storage, table: str) -> None:
        self._table = Table(storage, table)

    async def read(self, partition: str, row: str) -> JsonRow | None:
        found = await self._table.read(table_key(partition), table_key(row))
        return JsonRow(orjson.loads(found["data"]), found["odata.etag"]) if found else None

    async def put(self, partition: str, row: str, data: dict[str, Any]) -> None:
        """Write a row, whatever was there."""
        await self._table.upsert(_entity(partition, row, data))

    async def write(
        self, partition: str, row: str, data: dict[str, Any], known: JsonRow | None
    ) -> None:
        """Write a row over the one that its writer read, or a new one where that was none.

        Raises ConflictError where another writer came first.
        """
        entity = _entity(partition, row, data)
        if known is None:
            await self._table.insert(entity)
        else:
            await self._table.update(entity, etag=known.etag)

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; a no-op where there is none."""
        await self._table.delete(table_key(partition), table_key(row))

    async def rows(self, partition: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the data of a partition's rows, or of the whole table's."""
        where = f"PartitionKey eq '{table_key(partition)}'" if partition is not None else ""
        async for page in self._table.pages(where, columns=("data",)):
            for row in page:
                yield orjson.loads(row["data"])


def _entity(partition: str, row: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "PartitionKey": table_key(partition),
        "RowKey": table_key(row),
        "data": orjson.dumps(data).decode(),
    }
