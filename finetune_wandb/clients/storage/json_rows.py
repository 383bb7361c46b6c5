"""Rows of small tables: keys to search by, and one JSON column with the rest."""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.table_wire import TableWire
from finetune_wandb.clients.translate import translated

_SERVICE = "Table storage"
_PLAIN = re.compile(r"^[A-Za-z0-9_.|-]{1,400}$")


def table_key(text: str) -> str:
    """Return text as a table key: itself with `/` as `|`, or a hash where that cannot be."""
    plain = text.replace("/", "|")
    if _PLAIN.fullmatch(plain):
        return plain
    return "h-" + hashlib.sha256(text.encode()).hexdigest()[:40]


class JsonRows:
    """One table. Every method raises our errors."""

    def __init__(self, storage: Storage, table: str) -> None:
        self._storage = storage
        self._table = table
        self._wire = TableWire(storage)

    async def put(self, partition: str, row: str, data: dict[str, Any]) -> None:
        """Write a row, whatever was there."""
        table = await self._storage.table(self._table)
        with translated(self._table, _SERVICE):
            await table.upsert_entity(_entity(partition, row, data), mode="replace")

    async def add(self, partition: str, row: str, data: dict[str, Any]) -> bool:
        """Write a row unless there is one; say whether it was written."""
        from azure.core.exceptions import ResourceExistsError

        table = await self._storage.table(self._table)
        with translated(self._table, _SERVICE):
            try:
                await table.create_entity(_entity(partition, row, data))
            except ResourceExistsError:
                return False
        return True

    async def swap(
        self, partition: str, row: str, data: dict[str, Any], *, expected: dict[str, Any]
    ) -> bool:
        """Write a row if it still holds `expected`; say whether it did."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

        table = await self._storage.table(self._table)
        with translated(self._table, _SERVICE):
            try:
                entity = await table.get_entity(table_key(partition), table_key(row))
                if _data(entity) != expected:
                    return False
                await table.update_entity(
                    _entity(partition, row, data),
                    mode="replace",
                    etag=entity.metadata["etag"],
                    match_condition=MatchConditions.IfNotModified,
                )
            except (ResourceModifiedError, ResourceNotFoundError):
                return False
        return True

    async def get(self, partition: str, row: str) -> dict[str, Any] | None:
        from azure.core.exceptions import ResourceNotFoundError

        table = await self._storage.table(self._table)
        with translated(self._table, _SERVICE):
            try:
                entity = await table.get_entity(table_key(partition), table_key(row))
            except ResourceNotFoundError:
                return None
        return _data(entity)

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; one that is not there is as good."""
        table = await self._storage.table(self._table)
        with translated(self._table, _SERVICE):
            await table.delete_entity(table_key(partition), table_key(row))

    async def rows(self, partition: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a partition, or of the whole table."""
        where = f"PartitionKey eq '{table_key(partition)}'" if partition is not None else ""
        async for page in self._wire.pages(self._table, where, columns=("data",)):
            for row in page.rows:
                yield _data(row)


def _entity(partition: str, row: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "PartitionKey": table_key(partition),
        "RowKey": table_key(row),
        "data": orjson.dumps(data).decode(),
    }


def _data(entity: Any) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(entity["data"])
    return data
