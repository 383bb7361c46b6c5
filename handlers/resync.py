"""HTTP: take on a re-sync, and say how far one is."""

import asyncio
import hashlib
import math
import re
import uuid
from dataclasses import asdict, replace
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.flows.resync_jobs import NO_JOB, NO_JOB_REMEDY
from finetune_wandb.model import ids
from finetune_wandb.model.errors import AppError, ConflictError, MissingError, NoticeError
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.resync import Resync, ResyncRequest
from finetune_wandb.model.resync_request import request_from_body
from handlers.problem_details import Refusal, answer_for, json_answer
from handlers.resync_view import is_done, view

NAME: Final = "resync"
STATUS_NAME: Final = "resync_status"
MOST_BYTES: Final = 16_384
LONGEST_WAIT_S: Final = 200.0
"""The platform cuts HTTP answers at 230 seconds."""
_ID: Final = re.compile(r"^[0-9a-f]{32}$")
_STALE_S: Final = 86_400.0
_LOOK_S: Final = 5.0
"""How long a caller waits to hear that there is no such job."""
_STUCK_S: Final = 120.0
"""A re-sync that knows not all its accounts after this time has lost its message."""


async def start(request: ResyncRequest, app: App, *, requested_by: str) -> Resync:
    """Take on a re-sync; the same request while one is running joins it."""
    if request.scope == "all" and request.applies:
        await _send(ReconcileMessage(kind="requeue", sent_at=app.clock()), app)
    same = replace(request, account=request.account.lower())  # whatever case an id was written in
    fingerprint = hashlib.sha256(
        orjson.dumps(asdict(same), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()
    known = await app.resyncs.running(fingerprint)
    if known and (running := await _join(known, app)):
        return running
    resync = Resync(
        id=uuid.uuid4().hex,
        request=request,
        requested_by=requested_by,
        created_at=app.clock(),
    )
    await app.resyncs.write(resync)
    latest = await app.resyncs.claim(fingerprint, resync, instead_of=known)
    if latest != resync.id:
        # Somebody asked for the same a moment ago.
        await app.resyncs.remove(resync.id)
        running = await _join(latest, app) if latest else None
        if running is None:
            raise ConflictError("the same re-sync was asked for at this moment; ask again")
        return running
    await _send(ReconcileMessage(kind="resync", resync=resync.id, sent_at=app.clock()), app)
    return resync


async def _join(resync_id: str, app: App) -> Resync | None:
    """Return this re-sync when it is running still; bring one that is stuck on its way."""
    found = await app.resyncs.read(resync_id)
    if found is None or app.clock() - found[0].created_at >= _STALE_S or is_done(*found):
        return None
    resync = found[0]
    if not resync.spread and app.clock() - resync.created_at > _STUCK_S:
        await _send(ReconcileMessage(kind="resync", resync=resync.id, sent_at=app.clock()), app)
    return resync


async def _send(message: ReconcileMessage, app: App) -> None:
    await app.reconcile_queue.send([message.to_json()])


async def read_view(resync_id: str, app: App) -> dict[str, Any]:
    """Return how far a re-sync is. Raises MissingError for an id that is not known."""
    found = await app.resyncs.read(resync_id) if _ID.fullmatch(resync_id) else None
    if found is None:
        raise MissingError("no re-sync has this id", subject="id")
    return view(*found, now=app.clock())


async def post(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer POST /api/resync. Raises Refusal, NoticeError and TemporaryError."""
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
    """Raise MissingError where the account says that it has no such job.

    Whatever else is in the way (an account that is not relayed, a service that is down) is told by
    the re-sync itself.
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
        raise Refusal(403, "a page of another site may not ask for this")
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
        raise NoticeError("is not JSON", subject="body") from None


def _wait(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_WAIT_S:
        raise NoticeError(f"must be 0 to {LONGEST_WAIT_S:.0f} seconds", subject="wait")
    return value


def _caller(request: func.HttpRequest, app: App) -> str:
    """Return who asks, where App Service Authentication says it."""
    if not app.signed_in:
        return ""
    return (request.headers.get("x-ms-client-principal-name") or "")[:200]


async def answer(request: func.HttpRequest, deps: Deps) -> func.HttpResponse:
    """Answer POST /api/resync, refusals included."""
    try:
        return await post(request, await deps.app())
    except (AppError, Refusal) as error:
        return answer_for(error)


async def answer_status(request: func.HttpRequest, deps: Deps) -> func.HttpResponse:
    """Answer GET /api/resync/{id}, refusals included."""
    try:
        resync_id = request.route_params.get("id") or ""
        return json_answer(await read_view(resync_id, await deps.app()))
    except (AppError, Refusal) as error:
        return answer_for(error)
