"""HTTP: the health of accounts, jobs and keys, with causes and remedies; filters and pages.

The dashboard shows the same accounts, jobs, keys and problems.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlencode

import azure.functions as func
import msgspec
import orjson

from finetune_wandb.flows.app import App
from finetune_wandb.flows.status import Situation, is_bad, needs_action, read_situation
from finetune_wandb.keys.rotation import rotation_findings
from finetune_wandb.model.accounts.key import KeyMint, KeyRecord
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import AuditEntry
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.routes import Routes, possible_routes
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.work import Problem
from handlers.problem_details import SAFE, RequestError

MOST: Final = 5000
"""Accounts and jobs, each, in one answer; also the default page size."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~/-]*")
_MANY: Final = 8192
"""Most jobs have not changed since the last call, so their texts are cached."""
_ANY_REMEDY: Final = (
    "The app retries it; if it persists, re-sync, then see docs/troubleshooting.md."
)
_END_OF_TIME: Final = 253_402_300_800
"""The year 10000, which `datetime` cannot hold."""
_FLAGS: Final = {"1": True, "true": True, "": False, "0": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """`page` counts from 1; `limit` applies to accounts and to jobs separately."""

    account: str = ""
    """ARM id or name, in lower case."""
    job: str = ""
    unhealthy: bool = False
    limit: int = MOST
    page: int = 1

    def takes_account(self, entry: AccountReport) -> bool:
        return self._is_account(entry.key) and not (self.unhealthy and not needs_action(entry))

    def takes_job(self, cursor: Cursor) -> bool:
        return (
            self._is_account(cursor.account)
            and (not self.job or cursor.job == self.job)
            and not (self.unhealthy and not is_bad(cursor))
        )

    def _is_account(self, key: str) -> bool:
        return not self.account or self.account in (key, key.rpartition("/")[2])

    def cut[T](self, items: list[T]) -> list[T]:
        """Return the items of the wanted page."""
        return items[(self.page - 1) * self.limit : self.page * self.limit]

    def link(self, page: int) -> str:
        """Return the parameters that ask for another page."""
        given = asdict(self) | {"unhealthy": int(self.unhealthy), "page": page}
        return urlencode({name: value for name, value in given.items() if value})

    def pages(self, *counts: int) -> int:
        """Return how many pages lists of these lengths fill; at least 1."""
        return max(1, *(-(-count // self.limit) for count in counts))


def read_query(params: Mapping[str, str], *, limit: int = MOST, most: int = MOST) -> StatusQuery:
    """Return the query in a request's parameters. Raises RequestError naming the wrong one.

    Unknown parameters are ignored: hosts and proxies add their own.
    """
    flag = _FLAGS.get(read_text(params, "unhealthy").lower())
    if flag is None:
        raise RequestError(400, "must be 1 or 0", field="unhealthy")
    return StatusQuery(
        account=read_text(params, "account").rstrip("/").lower(),
        job=read_text(params, "job"),
        unhealthy=flag,
        page=read_number(params, "page", 1, 1_000_000),
        limit=read_number(params, "limit", limit, most),
    )


def read_text(params: Mapping[str, str], name: str) -> str:
    text = (params.get(name) or "").strip()
    if len(text) > 2048:
        raise RequestError(400, "is too long", field=name)
    return text


def read_number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = read_text(params, name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most):
        raise RequestError(400, f"must be a number from 1 to {most}", field=name)
    return int(text)


def view(situation: Situation, query: StatusQuery, settings: Settings) -> dict[str, Any]:
    """Return the status answer."""
    accounts = [] if query.job else list(filter(query.takes_account, situation.accounts))
    cursors = list(filter(query.takes_job, situation.cursors))
    changes, mints = situation.key_changes, situation.mints
    return {
        "accounts": [account_view(entry, settings.routes) for entry in query.cut(accounts)],
        "jobs": [job_view(cursor, settings.run_url_root) for cursor in query.cut(cursors)],
        "keys": [
            key_view(record, changes.get(record.secret, ()), mints.get(record.secret))
            for record in situation.keys
        ],
        "problems": [problem_view(item) for item in situation.problems],
        "queues": msgspec.to_builtins(situation.queues),
        "totals": situation.totals(),
        "paging": {
            "page": query.page,
            "limit": query.limit,
            "pages": query.pages(len(accounts), len(cursors)),
            "accounts": len(accounts),
            "jobs": len(cursors),
        },
    }


def picked(source: object, *names: str) -> dict[str, Any]:
    """Return these fields as JSON values: times as ISO 8601 in UTC."""
    return {name: msgspec.to_builtins(getattr(source, name)) for name in names}


def account_view(entry: AccountReport, routes: Routes = ()) -> dict[str, Any]:
    fields = ("name", "kind", "mode", "in_scope", "healthy", "findings", "plan", "steps")
    shown = picked(entry, *fields, "entity", "project", "checked_at")
    rules = possible_routes(routes, entry.id, entry.tags) if entry.in_scope else {}
    return {
        "id": str(entry.id),
        **shown,
        "routes": [{"rule": place, **rule.shown} for place, rule in rules.items()],
    }


def _run_url(cursor: Cursor, root: str) -> str:
    run = cursor.run
    if not run:
        return ""
    return f"{root}/{_quoted(run.entity)}/{_quoted(run.project)}/runs/{_quoted(run.run_id)}"


@lru_cache(maxsize=_MANY)
def _quoted(part: str) -> str:
    # Job ids and most names need no quoting, and the test for that is much cheaper.
    return part if _PLAIN.fullmatch(part) else quote(part)


def remedy_for(cause: str, remedy: str) -> str:
    """Return the remedy for a cause, or the general one."""
    return remedy or (_ANY_REMEDY if cause else "")


def job_view(cursor: Cursor, run_url_root: str) -> dict[str, Any]:
    return {
        "id": cursor.job,
        "account": cursor.account,
        "status": cursor.status,
        "run_url": _run_url(cursor, run_url_root),
        "run": str(cursor.run) if cursor.run else "",
        "values": cursor.values,
        "last_step": cursor.last_step,
        "lag_s": cursor.lag_s,
        "state": cursor.relay_state,
        "error": cursor.error,
        "remedy": remedy_for(cursor.error, cursor.remedy),
        "notes": list(cursor.notes),
        "model": cursor.model,
        "last_value_at": _unix(cursor.last_value_at),
        "created_at": _unix(cursor.created_at),
        "finished_at": _unix(cursor.finished_at),
    }


def key_view(
    record: KeyRecord, changes: Sequence[AuditEntry] = (), mint: KeyMint | None = None
) -> dict[str, Any]:
    """Return a key with its latest changes, newest first, and the latest rotation."""
    rotation = ("state", "began_at", "switched_at", "version", "old_version")
    return {
        "vault": record.secret.vault.host,
        "secret": record.secret.name,
        **picked(record, "version", "entity", "accepted_at", "expires_at", "newest_version"),
        **picked(record, "newest_cause", "trigger", "refused_at", "checked_at"),
        "changes": [
            {
                **picked(one, "at", "cause", "trigger"),
                **one.detail,
                "accepted": one.cause == "key_accepted",
            }
            for one in changes
        ],
        "rotation": mint
        and picked(mint, *rotation) | {"findings": msgspec.to_builtins(rotation_findings(mint))},
    }


def problem_view(item: Problem) -> dict[str, Any]:
    return {
        **picked(item, "source", "subject", "cause"),
        "remedy": remedy_for(item.cause, item.remedy),
        **picked(item, "count", "last_at", *(["message"] if item.message else [])),
    }


@lru_cache(maxsize=4 * _MANY)
def _unix(moment: float | None) -> str | None:
    """Return unix seconds as ISO 8601 in UTC; None if out of range."""
    if moment is None or not 0 <= moment < _END_OF_TIME:
        return None
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


def tagged_answer(
    request: func.HttpRequest, body: bytes, mimetype: str, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """Return `body` with its ETag, or 304 without a body if the caller already has it."""
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    known = {one.strip() for one in (request.headers.get("if-none-match") or "").split(",")}
    common = {"ETag": tag, "Cache-Control": "private, no-cache", **SAFE}
    if tag in known or "*" in known:
        return func.HttpResponse(status_code=304, headers=common)
    return func.HttpResponse(
        body, mimetype=mimetype, charset="utf-8", headers={**common, **(headers or {})}
    )


async def answer(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/status. Raises RequestError, and TemporaryError for the tables."""
    query = read_query(request.params)
    shown = view(await read_situation(app), query, app.settings)
    return tagged_answer(request, orjson.dumps(shown), "application/json")
