"""The table of accounts: what the last pass over each found, and what the relay needs of it.

One row per account. A report of an account that could not be read changes only what it knows.
"""

import contextlib
from datetime import datetime
from typing import Any

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import ANY, Table, quoted
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.report import AccountReport, Finding, Step, StepOutcome, Told
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.ids import AccountId, parse_account_id
from finetune_wandb.model.secret import secret_at

TABLE = "accounts"
_RELAY_COLUMNS = (
    "id",
    "endpoint",
    "region",
    "entity",
    "project",
    "vault_host",
    "secret",
    "native_seen",
    "mode",
)
_TEXT_COLUMNS = ("endpoint", "region", "entity", "project", "kind", "principal_id")
_TOLD = msgspec.json.Decoder(Told)
_TOO_LONG = 32_000
"""Characters a text property may have; a row keeps its place when a list grows past it."""
_FINDINGS = msgspec.json.Decoder(tuple[Finding, ...])
_PLAN = msgspec.json.Decoder(tuple[Step, ...])
_STEPS = msgspec.json.Decoder(tuple[StepOutcome, ...])


class AccountTable:
    """AccountStore over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage, TABLE)

    async def read(self, account: AccountId) -> AccountReport | None:
        row = await self._table.read(*_place(account))
        return entry_of(row) if row else None

    async def write(self, report: AccountReport) -> None:
        """Store a report. Of a deleted account only an existing row is changed."""
        if report.deleted:
            await self._merge(report.id, _deleted(report.checked_at))
            return
        await self._table.upsert(_row_of(report), merge=True)

    async def mark_native_seen(self, account: AccountId) -> None:
        await self._merge(account, {"native_seen": True})

    async def list_all(self) -> list[AccountReport]:
        return [entry_of(row) for row in await self._table.query()]

    async def list_for_relay(self) -> list[RelayAccount]:
        return await self._for_relay("")

    async def find_for_relay(self, account: AccountId) -> RelayAccount | None:
        partition, name = map(quoted, _place(account))
        found = await self._for_relay(f"PartitionKey eq '{partition}' and RowKey eq '{name}' and ")
        return found[0] if found else None

    async def _for_relay(self, where: str) -> list[RelayAccount]:
        rows = await self._table.query(
            f"{where}in_scope eq true and deleted eq false", columns=_RELAY_COLUMNS
        )
        return [
            _relay_account_of(row)
            for row in rows
            if row.get("endpoint") and row.get("project") and row.get("vault_host")
        ]

    async def _merge(self, account: AccountId, columns: dict[str, Any]) -> None:
        partition, name = _place(account)
        row = {"PartitionKey": partition, "RowKey": name, **columns}
        with contextlib.suppress(ConflictError):
            await self._table.update(row, etag=ANY, merge=True)


def _place(account: AccountId) -> tuple[str, str]:
    return account.subscription.lower(), f"{account.group}|{account.name}".lower()


def _deleted(now: datetime) -> dict[str, Any]:
    # An account of the same name that is made later is another one: what was set in the portal
    # is gone with this one.
    return {
        "deleted": True,
        "in_scope": False,
        "healthy": False,
        "native_seen": False,
        "checked_at": now,
    }


def _row_of(report: AccountReport) -> dict[str, Any]:
    partition, name = _place(report.id)
    row: dict[str, Any] = {
        "PartitionKey": partition,
        "RowKey": name,
        "id": str(report.id),
        "checked_at": report.checked_at,
        "mode": report.mode,
        "settled": report.settled,
        "findings": _json(report.findings),
        "retry_after_s": report.retry_after_s or 0.0,
    }
    if report.told is not None:
        row["told"] = _json(report.told)
    if not report.readable:
        # What is known of it from before stays; a pause at Azure says nothing about its health.
        return row | ({"healthy": False} if report.settled else {})
    return row | {
        **{column: getattr(report, column) for column in _TEXT_COLUMNS},
        "vault_host": report.secret.vault.host if report.secret else "",
        "secret": report.secret.name if report.secret else "",
        "deleted": False,
        "in_scope": report.in_scope,
        "healthy": report.healthy,
        "plan": _json(report.plan),
        "steps": _json(report.steps),
    }


def _json(items: Any) -> str:
    """Return a list as text that fits a property, without its last items where it does not."""
    while len(text := msgspec.json.encode(items).decode()) > _TOO_LONG:
        items = items[:-1]
    return text


def entry_of(row: Any) -> AccountReport:
    """Return the report that a row was made from; what was never known is empty."""
    return AccountReport(
        id=parse_account_id(row["id"]),
        checked_at=datetime.fromisoformat(row["checked_at"]),
        mode=row["mode"],
        findings=_FINDINGS.decode(row["findings"]),
        deleted=row.get("deleted", False),
        in_scope=row.get("in_scope", False),
        healthy=row.get("healthy", False),
        settled=row["settled"],
        plan=_PLAN.decode(row.get("plan", "[]")),
        steps=_STEPS.decode(row.get("steps", "[]")),
        retry_after_s=row["retry_after_s"] or None,
        told=_TOLD.decode(row["told"]) if row.get("told") else None,
        native_seen=row.get("native_seen", False),
        secret=secret_at(row["vault_host"], row["secret"]) if row.get("vault_host") else None,
        **{column: row.get(column, "") for column in _TEXT_COLUMNS},
    )


def _relay_account_of(row: Any) -> RelayAccount:
    account = parse_account_id(row["id"])
    return RelayAccount(
        id=account,
        name=account.name,
        endpoint=row["endpoint"],
        region=row.get("region") or "",
        subscription=account.subscription,
        entity=row.get("entity") or "",
        project=row["project"],
        secret=secret_at(row["vault_host"], row["secret"]),
        native_seen=bool(row.get("native_seen")),
        observed=row.get("mode") == "observe",
    )
