"""The tables of keys: which version of each secret is in use, and every change of that.

Never holds a value. The audit keeps 400 days.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from finetune_wandb.clients.storage.account_table import utc
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.table_wire import TableWire, quoted
from finetune_wandb.clients.translate import translated
from finetune_wandb.model.errors import ConflictError, MissingError
from finetune_wandb.model.key import KeyChange, KeyRecord
from finetune_wandb.model.secret import SecretRef, secret_at

TABLE = "keys"
CHANGES = "keychanges"
KEEP_CHANGES = timedelta(days=400)
_SERVICE = "Table storage"
_END_OF_TIME = 10**16
"""Microseconds beyond any date: row keys count down from it, so that the newest comes first."""


class KeyTable:
    """Satisfies `KeyStore`; the lists serve status."""

    def __init__(
        self, storage: Storage, on_write: Callable[[KeyRecord], None] | None = None
    ) -> None:
        """`on_write` is told of every record that this process has written."""
        self._storage = storage
        self._wire = TableWire(storage)
        self._on_write = on_write

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        """Return what is known of a secret, None when it was never looked at: one point read."""
        try:
            with translated(str(secret), _SERVICE):
                table = await self._storage.table(TABLE)
                row = await table.get_entity(*secret.key)
                return _record_of(row, str((row.metadata or {}).get("etag") or ""))
        except MissingError:
            return None

    async def list_all(self) -> list[KeyRecord]:
        """Return what is known of every secret, in no order."""
        return [_record_of(row, row["odata.etag"]) for row in await self._wire.query(TABLE)]

    async def write(self, record: KeyRecord) -> KeyRecord:
        """Store the record and return it with its new tag.

        Raises ConflictError unless the stored row is the one that `record` was made from.
        """
        from azure.core import MatchConditions

        row = _row_of(record)
        subject = str(record.secret)
        try:
            with translated(subject, _SERVICE):
                table = await self._storage.table(TABLE)
                if record.etag:
                    answer = await table.update_entity(
                        row,
                        mode="replace",
                        etag=record.etag,
                        match_condition=MatchConditions.IfNotModified,
                    )
                else:
                    answer = await table.create_entity(row)
        except MissingError as error:
            raise ConflictError("the key's record was removed", subject=subject) from error
        written = replace(record, etag=str(answer.get("etag") or ""))
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
        with translated(partition, _SERVICE):
            table = await self._storage.table(CHANGES)
            await table.upsert_entity(row)

    async def purge_changes(self, now: datetime) -> int:
        """Drop the lines of the audit that are older than 400 days; return how many."""
        gone = 0
        with translated(CHANGES, _SERVICE):
            table = await self._storage.table(CHANGES)
            # Found out before anything goes: pages of a query that is cut short shift.
            old = [
                (row["PartitionKey"], row["RowKey"])
                async for row in table.query_entities(
                    "RowKey gt @oldest",
                    parameters={"oldest": _countdown(now - KEEP_CHANGES)},
                    select=["PartitionKey", "RowKey"],
                )
            ]
            for partition, name in old:
                await table.delete_entity(partition, name)
                gone += 1
        return gone

    async def list_changes(self, secret: SecretRef, *, most: int | None = None) -> list[KeyChange]:
        """Return a secret's audit, newest first; the `most` newest lines where that is given."""
        where = f"PartitionKey eq '{quoted(_partition(secret))}'"
        found: list[KeyChange] = []
        async for page in self._wire.pages(CHANGES, where, most=most):
            found += map(_change_of, page.rows)
            if most is not None and len(found) >= most:
                break
        return found[:most]


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


def _record_of(row: Any, etag: str) -> KeyRecord:
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
        etag=etag,
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
