"""HTTP: what is healthy, what is not, why, and what to do."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.key import KeyChange, KeyRecord
from finetune_wandb.model.mint import KeyMint
from finetune_wandb.model.plan import AccountEntry
from finetune_wandb.model.problem import Problem
from finetune_wandb.model.queues import QueueCount
from handlers.problem_details import SAFE, Refusal, answer_for, json_answer
from handlers.status_query import StatusQuery, is_bad, read_query
from handlers.status_view import account_view, job_view, key_view, problem_view, queue_view

NAME: Final = "status"
_MOST_CHANGES: Final = 20
"""Changes of a key in an answer; the table holds 400 days of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that the app knows of its work, unfiltered: accounts by name, newest job first."""

    accounts: list[AccountEntry]
    cursors: list[Cursor]
    keys: list[KeyRecord]
    key_changes: dict[tuple[str, str], list[KeyChange]] = field(default_factory=dict)
    """The latest changes of each key, by vault host and secret."""
    mints: dict[tuple[str, str], KeyMint] = field(default_factory=dict)
    problems: list[Problem]
    queues: list[QueueCount]

    def totals(self) -> dict[str, Any]:
        """Return the counts that do not depend on filters."""
        states: dict[str, int] = {}
        for cursor in self.cursors:
            states[cursor.relay_state] = states.get(cursor.relay_state, 0) + 1
        return {
            "accounts": len(self.accounts),
            "unhealthy": sum(entry.in_scope and not entry.healthy for entry in self.accounts),
            "jobs": len(self.cursors),
            "jobs_by_state": dict(sorted(states.items())),
            "jobs_with_error": sum(map(is_bad, self.cursors)),
            "poison": sum(count.poison for count in self.queues),
        }


async def read_situation(app: App) -> Situation:
    """Read the tables and count the queues."""
    # The jobs first: they come in many pages, one after the other.
    cursors, accounts, keys, mints, problems, queues = await asyncio.gather(
        app.jobs.list_cursors(),
        app.accounts.list_all(),
        app.keys.list_all(),
        app.mints.list_all(),
        app.problems.list_all(),
        app.queues.counts(),
    )
    changes = await asyncio.gather(
        *(app.keys.list_changes(one.vault_host, one.secret, most=_MOST_CHANGES) for one in keys)
    )
    return Situation(
        accounts=sorted((one for one in accounts if not one.deleted), key=lambda one: one.key),
        cursors=sorted(cursors, key=lambda one: (-(one.created_at or 0.0), one.job)),
        keys=sorted(keys, key=lambda one: (one.vault_host, one.secret)),
        key_changes={
            (one.vault_host, one.secret): found for one, found in zip(keys, changes, strict=True)
        },
        mints={(one.vault_host, one.secret): one for one in mints},
        problems=problems,
        queues=queues,
    )


def view(situation: Situation, query: StatusQuery, run_url_root: str) -> dict[str, Any]:
    """Return the status answer."""
    accounts = [entry for entry in situation.accounts if query.takes_account(entry)]
    if query.job:
        accounts = []
    cursors = [cursor for cursor in situation.cursors if query.takes_job(cursor)]
    return {
        "accounts": [account_view(entry) for entry in query.cut(accounts)],
        "jobs": [job_view(cursor, run_url_root) for cursor in query.cut(cursors)],
        "keys": [
            key_view(
                record,
                situation.key_changes.get((record.vault_host, record.secret), ()),
                situation.mints.get((record.vault_host, record.secret)),
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


async def get(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/status; 304 without a body for an answer that the caller has already."""
    query = read_query(request.params)
    body = orjson.dumps(view(await read_situation(app), query, app.settings.run_url_root))
    tag = etag_of(body)
    if is_known(request, tag):
        return not_modified(tag)
    return json_answer(body, headers={"ETag": tag, **CACHED})


def etag_of(body: bytes) -> str:
    """Return the tag of an answer: equal for equal bodies."""
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_known(request: func.HttpRequest, tag: str) -> bool:
    """Whether the caller says that it has this answer already."""
    known = {one.strip() for one in (request.headers.get("if-none-match") or "").split(",")}
    return tag in known or "*" in known


def not_modified(tag: str) -> func.HttpResponse:
    return func.HttpResponse(status_code=304, headers={"ETag": tag, **CACHED, **SAFE})


CACHED: Final = {"Cache-Control": "private, no-cache"}
"""Kept by the caller alone, and asked about each time."""


async def answer(request: func.HttpRequest, deps: Deps) -> func.HttpResponse:
    """Answer GET /api/status, refusals included."""
    try:
        return await get(request, await deps.app())
    except (AppError, Refusal) as error:
        return answer_for(error)
