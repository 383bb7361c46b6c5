"""HTTP: the health of accounts, jobs and keys, with causes and remedies; filters and pages."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.flows.app import App
from finetune_wandb.flows.status import Situation, is_bad, needs_action, read_situation
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.relay.cursor import Cursor
from handlers.problem_details import SAFE, RequestError
from handlers.status_view import account_view, job_view, key_view, problem_view, queue_view

MOST: Final = 5000
"""Accounts and jobs, each, in one answer; also the default page size."""
_FLAGS: Final = {"1": True, "true": True, "": False, "0": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusQuery:
    """`page` counts from 1; `limit` holds for accounts and for jobs, each."""

    account: str = ""
    """ARM id or name, in lower case."""
    job: str = ""
    unhealthy: bool = False
    page: int = 1
    limit: int = MOST

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

    def pages(self, *counts: int) -> int:
        """Return how many pages lists of these lengths fill; at least 1."""
        return max(1, *(-(-count // self.limit) for count in counts))


def read_query(params: Mapping[str, str], *, limit: int = MOST, most: int = MOST) -> StatusQuery:
    """Return the query in a request's parameters. Raises RequestError naming the wrong one.

    Unknown parameters are ignored: hosts and proxies add their own.
    """
    flag = _FLAGS.get(_text(params, "unhealthy").lower())
    if flag is None:
        raise RequestError(400, "must be 1 or 0", field="unhealthy")
    return StatusQuery(
        account=_text(params, "account").rstrip("/").lower(),
        job=_text(params, "job"),
        unhealthy=flag,
        page=_number(params, "page", 1, 1_000_000),
        limit=_number(params, "limit", limit, most),
    )


def _text(params: Mapping[str, str], name: str) -> str:
    text = (params.get(name) or "").strip()
    if len(text) > 2048:
        raise RequestError(400, "is too long", field=name)
    return text


def _number(params: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = _text(params, name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most):
        raise RequestError(400, f"must be a number from 1 to {most}", field=name)
    return int(text)


def view(situation: Situation, query: StatusQuery, run_url_root: str) -> dict[str, Any]:
    """Return the status answer."""
    accounts = [] if query.job else list(filter(query.takes_account, situation.accounts))
    cursors = list(filter(query.takes_job, situation.cursors))
    return {
        "accounts": [account_view(entry) for entry in query.cut(accounts)],
        "jobs": [job_view(cursor, run_url_root) for cursor in query.cut(cursors)],
        "keys": [
            key_view(
                record,
                situation.key_changes.get(record.secret, ()),
                situation.mints.get(record.secret),
            )
            for record in situation.keys
        ],
        "problems": [problem_view(item) for item in situation.problems],
        "queues": [queue_view(count) for count in situation.queues],
        "totals": situation.totals(),
        "paging": {
            "page": query.page,
            "limit": query.limit,
            "pages": query.pages(len(accounts), len(cursors)),
            "accounts": len(accounts),
            "jobs": len(cursors),
        },
    }


def tagged_answer(
    request: func.HttpRequest, body: bytes, mimetype: str, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    """Return `body` with its ETag, or 304 without a body where the caller already has it."""
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
    shown = view(await read_situation(app), query, app.settings.run_url_root)
    return tagged_answer(request, orjson.dumps(shown), "application/json")
