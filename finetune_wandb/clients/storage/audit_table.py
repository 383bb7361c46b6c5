"""Table `audit`: one partition, newest entry first, so that a page is a range of row keys.

Changes of keys are in a partition of their own as well: each status answer asks for them.
"""

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table, matching, quoted
from finetune_wandb.model.audit import PAGE_MARK, AuditEntry, AuditPage, AuditQuery

_ALL: Final = "audit"
_KEYS: Final = "key_changed"
_END_OF_TIME: Final = 10**16
"""Microseconds beyond any date: row keys count down from it, so that the newest comes first."""
_LONGEST: Final = 2000
"""Characters of a text: an entry that does not fit a property would forbid the change."""
_MOST_PURGED: Final = 5000
"""Rows of a partition that one purge removes; the next one goes on."""


class AuditTable:
    """AuditPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage, "audit")

    async def write(self, entry: AuditEntry) -> None:
        cut = {name: value[:_LONGEST] for name, value in entry.detail.items()}
        texts = {name: getattr(entry, name)[:_LONGEST] for name in ("cause", "by", "code")}
        entry = replace(entry, detail=cut, **texts)
        # The same entry again, with its outcome or after a lost answer, is the same row.
        same = msgspec.json.encode(replace(entry, outcome="begun", code=""), order="sorted")
        row = f"{_countdown(entry.at)}-{hashlib.sha256(same).hexdigest()[:12]}"
        columns = {
            "action": entry.action,
            "subject": entry.subject.lower(),
            "data": msgspec.json.encode(entry).decode(),
        }
        if entry.action == _KEYS:
            await self._table.put(_KEYS, row, columns)
        await self._table.put(_ALL, row, columns)

    async def list(self, query: AuditQuery) -> AuditPage:
        where = [matching(_KEYS if query.action == _KEYS else _ALL)]
        if query.action:
            where.append(f"action eq '{quoted(query.action)}'")
        if query.subject:
            where.append(f"subject eq '{quoted(query.subject.lower())}'")
        if query.since is not None:
            where.append(f"RowKey lt '{_countdown(query.since)}~'")
        if query.until is not None:
            where.append(f"RowKey ge '{_countdown(query.until)}'")
        if PAGE_MARK.fullmatch(query.after):
            where.append(f"RowKey gt '{query.after}'")
        rows = await self._table.query(" and ".join(where), most=query.limit + 1)
        shown = rows[: query.limit]
        return AuditPage(
            tuple(msgspec.json.decode(row["data"], type=AuditEntry) for row in shown),
            shown[-1]["RowKey"] if len(rows) > len(shown) else "",
        )

    async def purge(self, before: datetime) -> int:
        removed = 0
        for partition in (_ALL, _KEYS):
            where = f"{matching(partition)} and RowKey gt '{_countdown(before)}~'"
            keys = ("PartitionKey", "RowKey")
            for row in await self._table.query(where, columns=keys, most=_MOST_PURGED):
                await self._table.delete(row["PartitionKey"], row["RowKey"])
                removed += partition == _ALL
        return removed


def _countdown(moment: datetime) -> str:
    return f"{_END_OF_TIME - int(moment.timestamp() * 1_000_000):017d}"
