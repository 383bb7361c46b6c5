"""HTTP: take on a re-sync, and say how far one is."""

import asyncio
import hashlib
import math
import re
import uuid
from dataclasses import asdict
from typing import Any, Final

import azure.functions as func
import orjson

from handlers.deps import App, Deps
from handlers.problem_details import answer_for, json_answer, problem
from model.errors import AppError, MissingError, NoticeError
from model.messages import ReconcileMessage
from model.resync import Resync, ResyncItem, ResyncRequest, request_from_body

NAME: Final = "resync"
STATUS_NAME: Final = "resync_status"
_MOST_BYTES: Final = 16_384
_LONGEST_WAIT_S: Final = 200.0
"""The platform cuts HTTP answers at 230 seconds."""
_ID: Final = re.compile(r"^[0-9a-f]{32}$")
_STALE_S: Final = 86_400.0


async def start(request: ResyncRequest, app: App, *, requested_by: str) -> Resync:
    """Take on a re-sync; the same request while one is running joins it."""
    fingerprint = hashlib.sha256(
        orjson.dumps(asdict(request), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()
    if running := await app.resyncs.running(fingerprint):
        found = await app.resyncs.read(running)
        if found and app.clock() - found[0].created_at < _STALE_S and not is_done(*found):
            return found[0]
    resync = Resync(
        id=uuid.uuid4().hex,
        request=request,
        requested_by=requested_by,
        created_at=app.clock(),
    )
    await app.resyncs.write(resync)
    await app.resyncs.set_running(fingerprint, resync.id)
    await app.reconcile_queue.send(
        [ReconcileMessage(kind="resync", resync=resync.id, sent_at=app.clock()).to_json()]
    )
    return resync


def is_done(resync: Resync, items: list[ResyncItem]) -> bool:
    return resync.spread and all(item.state != "pending" for item in items)


def view(resync: Resync, items: list[ResyncItem], *, now: float) -> dict[str, Any]:
    """Return a re-sync as the API shows it. Counts are of accounts and jobs together."""
    total = sum(item.total for item in items)
    done = sum(item.done for item in items)
    failed = sum(item.failed for item in items)
    finished = is_done(resync, items)
    elapsed = max(now - resync.created_at, 0.001)
    rate = (done + failed) / elapsed
    return {
        "id": resync.id,
        "state": "done" if finished else "running",
        "total": total,
        "done": done,
        "failed": failed,
        "rate_per_s": round(rate, 3),
        "left_s": 0 if finished else math.ceil((total - done - failed) / rate) if rate else None,
        "request": asdict(resync.request),
        "requested_by": resync.requested_by,
        "items": [
            {
                "name": item.name,
                "account": item.account,
                "state": item.state,
                "total": item.total,
                "done": item.done,
                "failed": item.failed,
                "results": item.results,
            }
            for item in items
        ],
    }


async def read_view(resync_id: str, app: App) -> dict[str, Any]:
    """Return how far a re-sync is. Raises MissingError for an id that is not known."""
    found = await app.resyncs.read(resync_id) if _ID.match(resync_id) else None
    if found is None:
        raise MissingError("no re-sync has this id", subject="id")
    return view(*found, now=app.clock())


async def post(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer POST /api/resync."""
    wait = _wait(request.params.get("wait"))
    resync = await start(
        request_from_body(_body(request), subscriptions=app.settings.azure_subscription_ids),
        app,
        requested_by=_caller(request),
    )
    location = f"{request.url.partition('?')[0].rstrip('/')}/{resync.id}"
    shown = await read_view(resync.id, app)
    deadline = app.clock() + wait
    while shown["state"] != "done" and app.clock() < deadline:
        await asyncio.sleep(0.2 if wait < 10 else 0.5)
        shown = await read_view(resync.id, app)
    if shown["state"] == "done" and wait:
        return json_answer(shown, 200, {"Location": location})
    return json_answer(shown, 202, {"Location": location, "Retry-After": "2"})


def _body(request: func.HttpRequest) -> object:
    raw = request.get_body() or b""
    if len(raw) > _MOST_BYTES:
        raise NoticeError(f"must be at most {_MOST_BYTES} bytes", subject="body")
    if not raw.strip():
        return None
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
    if not 0 <= value <= _LONGEST_WAIT_S:
        raise NoticeError(f"must be 0 to {_LONGEST_WAIT_S:.0f} seconds", subject="wait")
    return value


def _caller(request: func.HttpRequest) -> str:
    """Return who asks, where App Service Authentication says it; it strips forged headers."""
    return (request.headers.get("x-ms-client-principal-name") or "")[:200]


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()

    @bp.function_name(NAME)
    @bp.route(route="resync", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
    async def trigger(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return await post(req, await deps.app())
        except AppError as error:
            return answer_for(error)

    @bp.function_name(STATUS_NAME)
    @bp.route(route="resync/{id}", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
    async def status(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return json_answer(await read_view(req.route_params.get("id") or "", await deps.app()))
        except MissingError as error:
            return problem(404, error.message, field=error.subject)
        except AppError as error:
            return answer_for(error)

    return bp
