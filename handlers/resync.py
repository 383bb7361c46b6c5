"""HTTP: accept a re-sync, and answer with its progress."""

import asyncio
import math
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import azure.functions as func
import msgspec
import orjson

from finetune_wandb.flows.app import App
from finetune_wandb.flows.resync import no_such_job, start
from finetune_wandb.model import ids
from finetune_wandb.model.errors import AppError, MissingError, NoticeError
from finetune_wandb.model.resync import (
    MODES,
    PARTS,
    SCOPES,
    Mode,
    Part,
    Resync,
    ResyncItem,
    ResyncRequest,
    Scope,
    is_done,
)
from handlers.problem_details import RequestError, json_answer
from handlers.status import picked, remedy_for

MOST_BYTES: Final = 16_384
LONGEST_WAIT_S: Final = 200.0
"""The platform cuts HTTP answers at 230 seconds."""
_ID: Final = re.compile(r"^[0-9a-f]{32}$")
_LOOK_S: Final = 5.0
"""How long to check whether the job exists before accepting the request."""
_FIELD_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,23}")
"""A plausible field name: without digits and shorter than any key."""
_WRONG_FIELD: Final = re.compile(r"`\$\.(\w+)[^`]*`$")
_JOB: Final = re.compile(r"^[^\s/\\?#%\x00-\x1f\x7f]{1,200}$")
_Text = Annotated[str, msgspec.Meta(max_length=2048)] | None


class _Body(msgspec.Struct):
    """The fields of a request's body."""

    scope: Scope = "all"
    account: _Text = None
    job: _Text = None
    parts: Annotated[list[Part], msgspec.Meta(min_length=1)] | None = None
    mode: Mode = "apply"
    since: str | None = None
    force: bool = False


_MUST_BE: Final = {
    "scope": f"one of {', '.join(SCOPES)}",
    "account": "text",
    "job": "text",
    "parts": f"a list of {', '.join(PARTS)}",
    "mode": f"one of {', '.join(MODES)}",
    "since": "a date",
    "force": "true or false",
}

_DATE_REMEDY: Final = "write 2026-01-31 or 2026-01-31T12:00:00Z"


async def read_view(resync_id: str, app: App) -> dict[str, Any]:
    """Return the progress of a re-sync. Raises MissingError for an unknown id."""
    found = await app.resyncs.read(resync_id) if _ID.fullmatch(resync_id) else None
    if found is None:
        raise MissingError(
            "no re-sync has this id, or it was replaced by a later one", subject="id"
        )
    return view(*found, now=app.clock())


async def answer(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer POST /api/resync. Raises RequestError, and our errors."""
    wait = _wait(request.params.get("wait"))
    wanted = request_from_body(_body(request), subscriptions=app.settings.azure_subscription_ids)
    await _check_job(wanted, app)
    resync = await start(wanted, app, requested_by=caller(request, app))
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
    """Raise MissingError if the fine-tuning API has no such job.

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
        raise no_such_job("job") from error
    except (AppError, TimeoutError):
        return


def _body(request: func.HttpRequest) -> object:
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise RequestError(403, "a page of another site may not send this")
    raw = request.get_body() or b""
    if len(raw) > MOST_BYTES:
        raise RequestError(413, f"must be at most {MOST_BYTES} bytes", field="body")
    if not raw.strip():
        return {}
    media = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise RequestError(415, "must be application/json", field="Content-Type")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise RequestError(400, "is not JSON", field="body") from None


def _wait(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= LONGEST_WAIT_S:
        raise RequestError(400, f"must be 0 to {LONGEST_WAIT_S:.0f} seconds", field="wait")
    return value


def caller(request: func.HttpRequest, app: App) -> str:
    """Return the caller's name from App Service Authentication, empty without it."""
    if not app.signed_in:
        return ""
    return (request.headers.get("x-ms-client-principal-name") or "")[:200]


async def answer_status(request: func.HttpRequest, app: App) -> func.HttpResponse:
    """Answer GET /api/resync/{id}. Raises MissingError and TemporaryError."""
    return json_answer(await read_view(request.route_params.get("id") or "", app))


def request_from_body(body: object, *, subscriptions: tuple[str, ...]) -> ResyncRequest:
    """Return the request in a JSON body. Raises RequestError naming the field that is wrong."""
    if not isinstance(body, dict):
        raise RequestError(400, "the body must be a JSON object", field="body")
    if unknown := sorted(body.keys() - _MUST_BE.keys()):
        # A secret pasted in the wrong place must not come back in an answer.
        named = next(filter(_FIELD_NAME.fullmatch, unknown), "body")
        known = f"known: {', '.join(sorted(_MUST_BE))}"
        raise RequestError(400, "no such field", field=named, remedy=known)
    try:
        sent = msgspec.convert(body, _Body)
    except msgspec.ValidationError as error:
        found = _WRONG_FIELD.search(str(error))
        raise _wrong(found[1] if found else "body") from None
    account, job = (sent.account or "").strip(), (sent.job or "").strip()
    if sent.scope == "all":
        if account:
            raise RequestError(400, "goes with scope account or job", field="account")
    else:
        _check_account(account, subscriptions)
    if sent.scope == "job":
        if not _JOB.fullmatch(job):
            raise RequestError(400, "must be the id of a job", field="job")
    elif job:
        raise RequestError(400, "goes with scope job", field="job")
    return ResyncRequest(
        scope=sent.scope,
        account=account.rstrip("/"),
        job=job,
        parts=tuple(part for part in PARTS if sent.parts is None or part in sent.parts),
        mode=sent.mode,
        since=read_moment(sent.since, "since") if sent.since else None,
        force=sent.force,
    )


def _wrong(field: str) -> RequestError:
    remedy = _DATE_REMEDY if field == "since" else ""
    return RequestError(400, f"must be {_MUST_BE[field]}", field=field, remedy=remedy)


def _check_account(account: str, subscriptions: tuple[str, ...]) -> None:
    try:
        account_id = ids.parse_account_id(account)
    except NoticeError as error:
        raise RequestError(400, error.message, field=error.subject, remedy=error.remedy) from error
    if account_id.subscription.lower() not in subscriptions:
        raise RequestError(
            400,
            "the account's subscription is not watched",
            field="account",
            remedy="add its subscription to AZURE_SUBSCRIPTION_IDS",
        )


def read_moment(text: str, field: str) -> float:
    """Return a date or time as unix seconds. Raises RequestError naming the field."""
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        # It is shown in UTC: near the first or last year, a zone or rounding leaves the calendar.
        datetime.fromtimestamp(seconds, UTC)
    except ValueError:
        raise RequestError(400, "must be a date", field=field, remedy=_DATE_REMEDY) from None
    return seconds


def view(resync: Resync, items: list[ResyncItem], *, now: float) -> dict[str, Any]:
    """Return a re-sync as the API shows it. Counts are of accounts and jobs together.

    `rate_per_s` is the average since the start; `left_s` is None while unknown.
    """
    since = resync.request.since
    total = sum(item.total for item in items)
    done = sum(item.done for item in items)
    failed = sum(item.failed for item in items)
    finished = is_done(resync, items)
    end = max((item.finished_at for item in items), default=now) if finished else now
    elapsed = max(end - resync.created_at, 0.001)
    rate = (done + failed) / elapsed
    return {
        "id": resync.id,
        "state": "done" if finished else "running",
        "total": total,
        "done": done,
        "failed": failed,
        "rate_per_s": round(rate, 3),
        "elapsed_s": round(elapsed, 1),
        "left_s": 0 if finished else math.ceil((total - done - failed) / rate) if rate else None,
        "request": asdict(resync.request) | {"since": None if since is None else _moment(since)},
        "requested_by": resync.requested_by,
        "created_at": _moment(resync.created_at),
        "items": [
            picked(item, "name", "account", "state", "total", "done", "failed")
            | {"results": [_result(one) for one in item.results]}
            for item in items
        ],
    }


def _result(result: dict[str, Any]) -> dict[str, Any]:
    cause = result.get("error")
    return {**result, "remedy": remedy_for(cause, result.get("remedy", ""))} if cause else result


def _moment(seconds: float) -> Any:
    return msgspec.to_builtins(datetime.fromtimestamp(seconds, UTC))
