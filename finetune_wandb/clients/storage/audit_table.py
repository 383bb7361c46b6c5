"""Table `audit`: one partition, newest entry first, so that a page is a range of row keys."""

import hashlib
import re
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table, matching, quoted
from finetune_wandb.model.audit import AuditEntry, AuditPage, AuditQuery

_PARTITION: Final = "audit"
_END_OF_TIME: Final = 10**16
"""Microseconds beyond any date: row keys count down from it, so that the newest comes first."""
_ROW: Final = re.compile(r"\d{17}-[0-9a-f]{12}")


class AuditTable:
    """AuditPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage, "audit")

    async def write(self, entry: AuditEntry) -> None:
        # The same entry again, with its outcome or after a lost answer, is the same row.
        same = msgspec.json.encode(replace(entry, outcome="begun", code=""), order="sorted")
        row = f"{_countdown(entry.at)}-{hashlib.sha256(same).hexdigest()[:12]}"
        columns = {
            "action": entry.action,
            "subject": entry.subject.lower(),
            "data": msgspec.json.encode(entry).decode(),
        }
        await self._table.put(_PARTITION, row, columns)

    async def list(self, query: AuditQuery) -> AuditPage:
        where = [matching(_PARTITION)]
        if query.action:
            where.append(f"action eq '{quoted(query.action)}'")
        if query.subject:
            where.append(f"subject eq '{quoted(query.subject.lower())}'")
        if query.since is not None:
            where.append(f"RowKey lt '{_countdown(query.since)}~'")
        if query.until is not None:
            where.append(f"RowKey ge '{_countdown(query.until)}'")
        if _ROW.fullmatch(query.after):
            where.append(f"RowKey gt '{query.after}'")
        rows = await self._table.query(" and ".join(where), most=query.limit + 1)
        shown = rows[: query.limit]
        return AuditPage(
            tuple(msgspec.json.decode(row["data"], type=AuditEntry) for row in shown),
            shown[-1]["RowKey"] if len(rows) > len(shown) else "",
        )

    async def purge(self, before: datetime) -> int:
        where = f"{matching(_PARTITION)} and RowKey gt '{_countdown(before)}~'"
        old = await self._table.query(where, columns=("PartitionKey", "RowKey"))
        for row in old:
            await self._table.delete(row["PartitionKey"], row["RowKey"])
        return len(old)


def _countdown(moment: datetime) -> str:
    return f"{_END_OF_TIME - int(moment.timestamp() * 1_000_000):017d}"
