"""HTTP: the audit, newest first, with filters and pages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import azure.functions as func
import msgspec

from finetune_wandb.flows.app import App
from finetune_wandb.model.audit import PAGE_MARK, AuditPage, AuditQuery
from handlers.problem_details import RequestError, json_answer
from handlers.resync import read_moment
from handlers.status import read_number, read_text

LIMIT: Final = 100
MOST: Final = 1000


async def answer(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/audit. Raises RequestError, and TemporaryError for the table."""
    return json_answer(view(await app.audit.list(read_query(request.params))))


def view(page: AuditPage) -> dict[str, Any]:
    """Return a page as the API shows it."""
    return {"entries": msgspec.to_builtins(page.entries), "next": page.next}


def read_query(params: Mapping[str, str]) -> AuditQuery:
    """Return the query in a request's parameters. Raises RequestError naming the wrong one."""
    after = read_text(params, "after")
    if after and not PAGE_MARK.fullmatch(after):
        remedy = "send `next` of the page before as it came"
        raise RequestError(400, "is not the mark of a page", field="after", remedy=remedy)
    return AuditQuery(
        action=read_text(params, "action"),
        subject=read_text(params, "subject").rstrip("/"),
        since=_moment(params, "since"),
        until=_moment(params, "until"),
        after=after,
        limit=read_number(params, "limit", LIMIT, MOST),
    )


def _moment(params: Mapping[str, str], name: str) -> datetime | None:
    text = read_text(params, name)
    return datetime.fromtimestamp(read_moment(text, name), UTC) if text else None
