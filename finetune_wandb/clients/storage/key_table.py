"""The tables of keys: which version of each secret is in use, every change of that, and how far
each rotation has come.

They never hold a value. The audit keeps 400 days.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import JsonRow, JsonRows, Table, table_key
from finetune_wandb.model.accounts.key import KeyChange, KeyMint, KeyRecord
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.secret import SecretRef

TABLE = "keys"
CHANGES = "keychanges"
MINTS = "keymints"
KEEP_CHANGES = timedelta(days=400)
_END_OF_TIME = 10**16
"""Microseconds beyond any date: row keys count down from it, so that the newest comes first."""


class KeyTable:
    """KeyStore over Azure Tables."""

    def __init__(
        self, storage: Storage, on_write: Callable[[KeyRecord], None] | None = None
    ) -> None:
        """`on_write` gets every record that this process has written."""
        self._rows = JsonRows(storage, TABLE)
        self._changes = Table(storage, CHANGES)
        self._on_write = on_write

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        row = await self._rows.read(*secret.key)
        return replace(msgspec.convert(row.data, KeyRecord), etag=row.etag) if row else None

    async def list_all(self) -> list[KeyRecord]:
        """Return what is known of every secret, in no order, without the etags."""
        return [msgspec.convert(data, KeyRecord) async for data in self._rows.rows()]

    async def write(self, record: KeyRecord) -> KeyRecord:
        known = JsonRow({}, record.etag) if record.etag else None
        data = msgspec.to_builtins(replace(record, etag=""))
        written = replace(record, etag=await self._rows.write(*record.secret.key, data, known))
        if self._on_write is not None:
            self._on_write(written)
        return written

    async def append_change(self, change: KeyChange) -> None:
        await self._changes.upsert(
            {
                "PartitionKey": _partition(change.secret),
                "RowKey": f"{_countdown(change.at)}|{change.version}|{change.cause}",
                "data": msgspec.json.encode(change).decode(),
            }
        )

    async def purge_changes(self, now: datetime) -> int:
        old = await self._changes.query(
            f"RowKey gt '{_countdown(now - KEEP_CHANGES)}'", columns=("PartitionKey", "RowKey")
        )
        for row in old:
            await self._changes.delete(row["PartitionKey"], row["RowKey"])
        return len(old)

    async def list_changes(self, secret: SecretRef, *, most: int | None = None) -> list[KeyChange]:
        rows = await self._changes.query(f"PartitionKey eq '{_partition(secret)}'", most=most)
        return [msgspec.json.decode(row["data"], type=KeyChange) for row in rows]


class MintTable:
    """MintStore over Azure Tables: one row a secret, written only over what its writer knows."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, MINTS)

    async def read(self, secret: SecretRef) -> KeyMint | None:
        row = await self._rows.read(*secret.key)
        return msgspec.convert(row.data, KeyMint) if row else None

    async def list_all(self) -> list[KeyMint]:
        return [msgspec.convert(data, KeyMint) async for data in self._rows.rows()]

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        place = after.secret.key
        row = await self._rows.read(*place)
        if (msgspec.convert(row.data, KeyMint) if row else None) != before:
            raise ConflictError("another process has the rotation", subject="/".join(place))
        await self._rows.write(*place, msgspec.to_builtins(after), row)


def _partition(secret: SecretRef) -> str:
    return table_key("/".join(secret.key))


def _countdown(moment: datetime) -> str:
    return f"{_END_OF_TIME - int(moment.timestamp() * 1_000_000):017d}"
