"""The tables of keys: which version of each secret is in use, every change of that, and how far
each rotation has come.

They never hold a value. The audit keeps 400 days.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from finetune_wandb.clients.storage.account_table import utc
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import JsonRows, Table, quoted
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.key import KeyChange, KeyRecord
from finetune_wandb.model.mint import KeyMint, mint_from_json
from finetune_wandb.model.secret import SecretRef, secret_at

TABLE = "keys"
CHANGES = "keychanges"
MINTS = "keymints"
KEEP_CHANGES = timedelta(days=400)
_END_OF_TIME = 10**16
"""Microseconds beyond any date: row keys count down from it, so that the newest comes first."""


class KeyTable:
    """Satisfies `KeyStore`; the lists serve status."""

    def __init__(
        self, storage: Storage, on_write: Callable[[KeyRecord], None] | None = None
    ) -> None:
        """`on_write` gets every record that this process has written."""
        self._table = Table(storage, TABLE)
        self._changes = Table(storage, CHANGES)
        self._on_write = on_write

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        """Return what is known of a secret, None when it was never looked at: one point read."""
        row = await self._table.read(*secret.key)
        return _record_of(row) if row else None

    async def list_all(self) -> list[KeyRecord]:
        """Return what is known of every secret, in no order."""
        return [_record_of(row) for row in await self._table.query()]

    async def write(self, record: KeyRecord) -> KeyRecord:
        """Store the record and return it with its new tag.

        Raises ConflictError unless the stored row is the one that `record` was made from.
        """
        row = _row_of(record)
        if record.etag:
            etag = await self._table.update(row, etag=record.etag)
        else:
            etag = await self._table.insert(row)
        written = replace(record, etag=etag)
        if self._on_write is not None:
            self._on_write(written)
        return written

    async def append_change(self, change: KeyChange) -> None:
        """Add a line to the audit."""
        partition = _partition(change.secret)
        row = {
            "PartitionKey": partition,
            "RowKey": f"{_countdown(change.at)}|{change.version}|{change.cause}",
            "at": change.at,
            "vault_host": change.secret.vault.host,
            "secret": change.secret.name,
            "version": change.version,
            "entity": change.entity,
            "accepted": change.accepted,
            "cause": change.cause,
            "trigger": change.trigger,
        }
        await self._changes.upsert(row)

    async def purge_changes(self, now: datetime) -> int:
        """Drop the lines of the audit that are older than 400 days; return how many."""
        old = await self._changes.query(
            f"RowKey gt '{_countdown(now - KEEP_CHANGES)}'", columns=("PartitionKey", "RowKey")
        )
        for row in old:
            await self._changes.delete(row["PartitionKey"], row["RowKey"])
        return len(old)

    async def list_changes(self, secret: SecretRef, *, most: int | None = None) -> list[KeyChange]:
        """Return a secret's audit, newest first; the `most` newest lines where that is given."""
        where = f"PartitionKey eq '{quoted(_partition(secret))}'"
        return [_change_of(row) for row in await self._changes.query(where, most=most)]


class MintTable:
    """MintStore over Azure Tables: one row a secret, written only over what its writer knows."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, MINTS)

    async def read(self, secret: SecretRef) -> KeyMint | None:
        row = await self._rows.read(*secret.key)
        return mint_from_json(row.data) if row else None

    async def list_all(self) -> list[KeyMint]:
        """Return every rotation there was, in no order."""
        return [mint_from_json(data) async for data in self._rows.rows()]

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        """Store `after` in place of `before`. Raises ConflictError where that is not stored."""
        place = after.secret.key
        known = await self._rows.read(*place)
        if (known.data if known else None) != (before.to_json() if before else None):
            raise ConflictError("another process has the rotation", subject="/".join(place))
        await self._rows.write(*place, after.to_json(), known)


def _partition(secret: SecretRef) -> str:
    return "|".join(secret.key)


def _countdown(moment: datetime) -> str:
    return f"{_END_OF_TIME - int(moment.timestamp() * 1_000_000):017d}"


def _row_of(record: KeyRecord) -> dict[str, Any]:
    host, name = record.secret.key
    row: dict[str, Any] = {
        "PartitionKey": host,
        "RowKey": name,
        "version": record.version,
        "entity": record.entity,
        "entities": orjson.dumps(record.entities).decode(),
        "trigger": record.trigger,
        "newest_version": record.newest_version,
        "newest_cause": record.newest_cause,
        "told": record.told,
    }
    times = {
        "accepted_at": record.accepted_at,
        "expires_at": record.expires_at,
        "checked_at": record.checked_at,
        "refused_at": record.refused_at,
    }
    return row | {name: moment for name, moment in times.items() if moment is not None}


def _record_of(row: Any) -> KeyRecord:
    def moment(name: str) -> datetime | None:
        value = row.get(name)
        return utc(value) if value is not None else None

    return KeyRecord(
        secret=secret_at(row["PartitionKey"], row["RowKey"]),
        version=row.get("version", ""),
        entity=row.get("entity", ""),
        entities=tuple(orjson.loads(row.get("entities", "[]"))),
        accepted_at=moment("accepted_at"),
        expires_at=moment("expires_at"),
        trigger=row.get("trigger", ""),
        newest_version=row.get("newest_version", ""),
        newest_cause=row.get("newest_cause", ""),
        checked_at=moment("checked_at"),
        refused_at=moment("refused_at"),
        told=row.get("told", ""),
        etag=row["odata.etag"],
    )


def _change_of(row: Any) -> KeyChange:
    return KeyChange(
        at=utc(row["at"]),
        secret=secret_at(row["vault_host"], row["secret"]),
        version=row["version"],
        entity=row["entity"],
        accepted=row["accepted"],
        cause=row["cause"],
        trigger=row["trigger"],
    )
