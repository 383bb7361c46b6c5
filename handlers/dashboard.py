"""HTTP: the status as a page for people, refreshed by itself, with a button that mends."""

import asyncio
from typing import Any, Final

import azure.functions as func

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.flows.status import is_bad, read_situation
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.plan import AccountEntry
from handlers.problem_details import SAFE, Refusal, answer_for
from handlers.resync_view import view
from handlers.status import CACHED, etag_of, is_known, not_modified
from handlers.status_query import read_query

NAME: Final = "dashboard"
LIMIT: Final = 25
MOST_ON_PAGE: Final = 200
"""Each job's curve is a read of its own."""
_MOST_RESYNCS: Final = 5
_AT_ONCE: Final = 16


async def get(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/dashboard."""
    from handlers import dashboard_page

    query = read_query(request.params, limit=LIMIT, most=MOST_ON_PAGE)
    situation, resyncs = await asyncio.gather(read_situation(app), _resyncs(app))
    accounts = sorted(filter(query.takes_account, situation.accounts), key=_account_rank)
    cursors = sorted(filter(query.takes_job, situation.cursors), key=_job_rank)
    text = dashboard_page.page(
        situation,
        query,
        accounts=accounts,
        cursors=cursors,
        curves=await _curves(query.cut(cursors), app),
        resyncs=resyncs,
        run_root=app.settings.run_url_root,
        now=app.now(),
        user=_user(request, app),
    )
    body = text.encode("utf-8", "replace")
    tag = etag_of(body)
    if is_known(request, tag):
        return not_modified(tag)
    return func.HttpResponse(
        body,
        mimetype="text/html",
        charset="utf-8",
        headers={
            "ETag": tag,
            "Content-Security-Policy": dashboard_page.POLICY,
            "X-Frame-Options": "DENY",
            **CACHED,
            **SAFE,
        },
    )


def _account_rank(entry: AccountEntry) -> tuple[bool, str]:
    return not (entry.in_scope and not entry.healthy), entry.key


def _job_rank(cursor: Cursor) -> tuple[int, float, str]:
    """Trouble first, then what is on, then the newest."""
    rank = 0 if is_bad(cursor) else 2 if cursor.relay_state in ("complete", "skipped") else 1
    return rank, -(cursor.created_at or 0.0), cursor.job


async def _curves(cursors: list[Cursor], app: App) -> dict[tuple[str, str], dict[str, Any]]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(cursor: Cursor) -> dict[str, Any]:
        async with limit:
            return await app.jobs.curve(cursor)

    found = await asyncio.gather(*map(one, cursors))
    return {
        (cursor.account, cursor.job): curve for cursor, curve in zip(cursors, found, strict=True)
    }


async def _resyncs(app: App) -> list[dict[str, Any]]:
    latest = (await app.resyncs.latest())[:_MOST_RESYNCS]
    found = await asyncio.gather(*(app.resyncs.read(resync_id) for resync_id, _ in latest))
    return [view(*one, now=app.clock()) for one in found if one]


def _user(request: func.HttpRequest, app: App) -> str:
    if not app.signed_in:
        return ""
    return (request.headers.get("x-ms-client-principal-name") or "")[:200]


async def answer(request: func.HttpRequest, deps: Deps) -> func.HttpResponse:
    """Answer GET /api/dashboard, refusals included."""
    try:
        return await get(request, await deps.app())
    except (AppError, Refusal) as error:
        return answer_for(error)
