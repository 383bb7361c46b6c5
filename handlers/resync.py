"""HTTP: accept a re-sync, and answer how far one has come."""

import asyncio
import math
import re
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.flows.app import App
from finetune_wandb.flows.resync import start
from finetune_wandb.flows.resync_jobs import NO_JOB, NO_JOB_REMEDY
from finetune_wandb.model import ids
from finetune_wandb.model.errors import AppError, MissingError
from finetune_wandb.model.resync import ResyncRequest
from handlers.problem_details import Refusal, json_answer
from handlers.resync_body import request_from_body
from handlers.resync_view import view

MOST_BYTES: Final = 16_384
LONGEST_WAIT_S: Final = 200.0
"""The platform cuts HTTP answers at 230 seconds."""
_ID: Final = re.compile(r"^[0-9a-f]{32}$")
_LOOK_S: Final = 5.0
"""How long a caller waits for the answer whether the job exists."""


async def read_view(resync_id: str, app: App) -> dict[str, Any]:
    """Return how far a re-sync has come. Raises MissingError for an unknown id."""
    found = await app.resyncs.read(resync_id) if _ID.fullmatch(resync_id) else None
    if found is None:
        raise MissingError(
            "no re-sync has this id, or it was replaced by a later one", subject="id"
        )
    return view(*found, now=app.clock())


async def answer(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer POST /api/resync. Raises Refusal, and our errors."""
    wait = _wait(request.params.get("wait"))
    wanted = request_from_body(_body(request), subscriptions=app.settings.azure_subscription_ids)
    await _check_job(wanted, app)
    resync = await start(wanted, app, requested_by=_caller(request, app))
    location = f"{request.url.partition('?')[0].rstrip('/')}/{resync.id}"
    shown = await read_view(resync.id, app)
    started = app.clock()
    while shown["state"] != "done" and (waited := app.clock() - started) < wait:
        await asyncio.sleep(min(0.2 + waited / 20, 3.0, wait - waited))
        shown = await read_view(resync.id, app)
    if shown["state"] == "done" and wait:
        return json_answer(shown, 200, {"Location": location})
    return json_answer(shown, 202, {"Location": location, "Retry-After": "2"})


async def _check_job(request: ResyncRequest, app: App) -> None:
    """Raise MissingError where the fine-tuning API has no such job.

    Everything else (an account that is not relayed, a service that is down) is reported by the
    re-sync itself.
    """
    if not request.job:
        return
    try:
        account = await app.accounts.find_for_relay(ids.parse_account_id(request.account))
        if account is not None:
            async with asyncio.timeout(_LOOK_S):
                await app.relay.jobs.read_job(account, request.job)
    except MissingError as error:
        raise MissingError(NO_JOB, subject="job", remedy=NO_JOB_REMEDY) from error
    except (AppError, TimeoutError):
        return


def _body(request: func.HttpRequest) -> object:
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Refusal(403, "a page of another site may not send this")
    raw = request.get_body() or b""
    if len(raw) > MOST_BYTES:
        raise Refusal(413, f"must be at most {MOST_BYTES} bytes", field="body")
    if not raw.strip():
        return {}
    media = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Refusal(415, "must be application/json", field="Content-Type")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refusal(400, "is not JSON", field="body") from None


def _wait(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_WAIT_S:
        raise Refusal(400, f"must be 0 to {LONGEST_WAIT_S:.0f} seconds", field="wait")
    return value


def _caller(request: func.HttpRequest, app: App) -> str:
    """Return the caller's name as App Service Authentication gives it."""
    if not app.signed_in:
        return ""
    return (request.headers.get("x-ms-client-principal-name") or "")[:200]


async def answer_status(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/resync/{id}. Raises MissingError and TemporaryError."""
    return json_answer(await read_view(request.route_params.get("id") or "", app))
