"""What the app knows of accounts and keys: tables `accounts`, `keys`, `keymints`.

One row an account, with what the last pass over it found and what the relay needs of it; a report
of an account that could not be read changes only what it knows. One row a secret, with the
version in use; another with how far its rotation has come. No table ever holds a key's value.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import ANY, Rows, Table, matching
from finetune_wandb.model.accounts.account import TAG_ENTITY, TAG_PROJECT, RelayAccount
from finetune_wandb.model.accounts.key import KeyMint, KeyRecord
from finetune_wandb.model.accounts.report import AccountReport, Finding
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.ids import AccountId, parse_account_id
from finetune_wandb.model.routes import Routes, possible_routes
from finetune_wandb.model.secret import SecretRef, secret_at

_TEXTS = ("endpoint", "region", "entity", "project")
_RELAY_COLUMNS = ("id", *_TEXTS, "vault_host", "secret", "native_seen", "mode", "tags")
_JSON = ("findings", "plan", "steps", "told", "tags")
_TOO_LONG = 32_000
"""Characters a text property may have; a row keeps its place when a list grows past it."""


class AccountTable:
    """AccountStore over Azure Tables."""

    def __init__(
        self, storage: Storage, routes: Routes = (), run_tags: tuple[str, ...] = ()
    ) -> None:
        """`routes` and `run_tags` are those of the settings; each account gets what concerns it."""
        self._table = Table(storage, "accounts")
        self._routes, self._run_tags = routes, run_tags

    async def read(self, account: AccountId) -> AccountReport | None:
        row = await self._table.read(*_place(account))
        return _report_of(row) if row else None

    async def write(self, report: AccountReport) -> None:
        """Store a report. Of a deleted account only an existing row is changed."""
        if report.deleted:
            # An account of the same name that is made later is another one: what was set in the
            # portal is gone with this one.
            flags = dict.fromkeys(("in_scope", "healthy", "native_seen"), False)
            checked_at = report.checked_at.isoformat()
            await self._merge(report.id, deleted=True, checked_at=checked_at, **flags)
            return
        await self._table.put(*_place(report.id), _columns_of(report), merge=True)

    async def mark_native_seen(self, account: AccountId) -> None:
        await self._merge(account, native_seen=True)

    async def list_all(self) -> list[AccountReport]:
        return await self._table.items(_report_of)

    async def list_for_relay(self) -> list[RelayAccount]:
        return await self._for_relay("")

    async def find_for_relay(self, account: AccountId) -> RelayAccount | None:
        found = await self._for_relay(f"{matching(*_place(account))} and ")
        return found[0] if found else None

    async def _for_relay(self, where: str) -> list[RelayAccount]:
        found = await self._table.items(
            self._relay_account_of,
            f"{where}in_scope eq true and deleted eq false",
            columns=_RELAY_COLUMNS,
        )
        return [account for account in found if account is not None]

    def _relay_account_of(self, row: dict[str, Any]) -> RelayAccount | None:
        """Return what the relay needs of an account, None before that is known."""
        if not (row.get("endpoint") and row.get("project") and row.get("vault_host")):
            return None
        account = parse_account_id(row["id"])
        tags = msgspec.json.decode(row.get("tags") or "{}", type=dict[str, str])
        return RelayAccount(
            id=account,
            name=account.name,
            subscription=account.subscription,
            secret=secret_at(row["vault_host"], row["secret"]),
            native_seen=row.get("native_seen", False),
            observed=row["mode"] == "observe",
            tags={name: tags[name] for name in (TAG_ENTITY, TAG_PROJECT) if tags.get(name)},
            routes=tuple(possible_routes(self._routes, account, tags).values()),
            run_tags=self._run_tags,
            **{column: row[column] for column in _TEXTS},
        )

    async def _merge(self, account: AccountId, **columns: Any) -> None:
        with contextlib.suppress(ConflictError):
            await self._table.put(*_place(account), columns, over=ANY, merge=True)


def _place(account: AccountId) -> tuple[str, str]:
    return account.subscription.lower(), f"{account.group}|{account.name}".lower()


def _columns_of(report: AccountReport) -> dict[str, Any]:
    row = {
        "id": str(report.id),
        "checked_at": report.checked_at.isoformat(),
        "mode": report.mode,
        "settled": report.settled,
        # One for each rule of ROUTES: where they are too many, they crowd out no others.
        "findings": _json(sorted(report.findings, key=_expendable)),
        "retry_after_s": report.retry_after_s or 0.0,
    }
    if report.told is not None:
        row["told"] = _json(report.told)
    if not report.readable:
        # What is known of it from before stays; a pause at Azure says nothing about its health.
        return row | ({"healthy": False} if report.settled else {})
    return row | {
        **{name: getattr(report, name) for name in (*_TEXTS, "kind", "principal_id")},
        "vault_host": report.secret.vault.host if report.secret else "",
        "secret": report.secret.name if report.secret else "",
        "deleted": False,
        "in_scope": report.in_scope,
        "healthy": report.healthy,
        "tags": _json(report.tags),
        "plan": _json(report.plan),
        "steps": _json(report.steps),
    }


def _expendable(item: Finding) -> int:
    return ("rule" in item.evidence) * (1 + (item.severity == "ok"))


def _json(items: Any) -> str:
    """Return items as text that fits a property, without the last ones where it does not."""
    while len(text := msgspec.json.encode(items).decode()) > _TOO_LONG:
        fewer = len(items) - 1
        items = dict(islice(items.items(), fewer)) if isinstance(items, Mapping) else items[:fewer]
    return text


def _report_of(row: dict[str, Any]) -> AccountReport:
    """Return the report that a row was made from; what was never known has its default."""
    lists = {name: msgspec.json.decode(row[name]) for name in _JSON if row.get(name)}
    secret = secret_at(row["vault_host"], row["secret"]) if row.get("vault_host") else None
    own = {"id": parse_account_id(row["id"]), "secret": secret}
    known = row | lists | own | {"retry_after_s": row["retry_after_s"] or None}
    return msgspec.convert(known, AccountReport, from_attributes=True)


class KeyTable:
    """KeyStore over Azure Tables."""

    def __init__(
        self, storage: Storage, on_write: Callable[[KeyRecord], None] = lambda record: None
    ) -> None:
        """`on_write` gets every record that this process has written."""
        self._rows = Rows(storage, "keys", KeyRecord)
        self._on_write = on_write

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        record, etag = await self._rows.read(*secret.key)
        return replace(record, etag=etag) if record else None

    async def list_all(self) -> list[KeyRecord]:
        # In no order, and without the etags.
        return await self._rows.rows()

    async def write(self, record: KeyRecord) -> KeyRecord:
        plain = replace(record, etag="")
        etag = await self._rows.put(*record.secret.key, plain, over=record.etag)
        written = replace(record, etag=etag)
        self._on_write(written)
        return written


class MintTable:
    """MintStore over Azure Tables: one row a secret, written only over what its writer knows."""

    def __init__(self, storage: Storage) -> None:
        self._rows = Rows(storage, "keymints", KeyMint)

    async def read(self, secret: SecretRef) -> KeyMint | None:
        return (await self._rows.read(*secret.key))[0]

    async def list_all(self) -> list[KeyMint]:
        return await self._rows.rows()

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        place = after.secret.key
        found, etag = await self._rows.read(*place)
        if found != before:
            raise ConflictError("another process has the rotation", subject="/".join(place))
        await self._rows.put(*place, after, over=etag)
