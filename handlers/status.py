"""HTTP: what is healthy, what is not, why, and what to do."""

import hashlib
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.flows.status import Situation, read_situation
from finetune_wandb.model.errors import AppError
from handlers.problem_details import SAFE, Refusal, answer_for, json_answer
from handlers.status_query import StatusQuery, read_query
from handlers.status_view import account_view, job_view, key_view, problem_view, queue_view

NAME: Final = "status"


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
