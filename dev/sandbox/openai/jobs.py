"""The Azure OpenAI fine-tuning and files API, as accounts' hosts answer it.

Decides which call means what, in both dialects: v1 (`/openai/v1/…`, below a project too) and
dated (`/openai/…?api-version=DATE`). What there is to answer is set by the control paths
(`job_control`) or played by the training simulator.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

from dev.sandbox.http import Call, Handler
from dev.sandbox.openai import files
from dev.sandbox.openai.access import refused
from dev.sandbox.openai.job_control import control
from dev.sandbox.openai.job_request import parse
from dev.sandbox.openai.job_store import TERMINAL, AccountJobs, Dialect, StoredJob, account_jobs
from dev.sandbox.openai.pages import Page, Pages
from dev.sandbox.openai.simulator import simulate, simulator
from dev.sandbox.openai.training import Training
from dev.sandbox.openai.wire import (
    Refused,
    answer,
    invalid,
    listing,
    missing,
    nothing,
    read_limit,
    refusal,
    unrouted,
)
from dev.sandbox.store import World

__all__ = ["control", "routes", "simulate"]

_PATH = re.compile(
    r"^(?:/api/projects/[^/]+(?=/openai/v1/))?/openai(?P<v1>/v1)?"
    r"/(?P<kind>fine_tuning/jobs|files)(?:/(?P<id>[^/]+)(?:/(?P<part>[a-z]+))?)?/?$"
)
_JOBS_LIMIT = 20
_EVENTS_LIMIT = 20
_CHECKPOINTS_LIMIT = 10


@dataclass(slots=True)
class _Target:
    """What one call is about. `id` is empty where the path names none."""

    world: World
    call: Call
    account: AccountJobs
    dialect: Dialect
    id: str

    def job(self) -> StoredJob:
        found = self.account.jobs.get(self.id)
        if found is None:
            raise missing("fine-tuning job", self.id)
        return found


def routes(world: World) -> Handler:
    """Return the handler of all account hosts; the account is the first label of the host."""

    async def handle(call: Call) -> web.StreamResponse:
        if (closed := refused(world, call)) is not None:
            return closed
        match = _PATH.match(call.path)
        if match is None or (match["v1"] is None and "api-version" not in call.query):
            return unrouted()
        shape = (match["kind"], match["id"] is not None, match["part"])
        actions = _ACTIONS.get(shape)
        if actions is None:
            return unrouted()
        action = actions.get(call.method)
        if action is None:
            return web.Response(status=405, headers={"Allow": ", ".join(actions)})
        target = _Target(
            world=world,
            call=call,
            account=account_jobs(world, call.host.partition(".")[0]),
            dialect="dated" if match["v1"] is None else "v1",
            id=unquote(match["id"] or ""),
        )
        try:
            return action(target)
        except Refused as error:
            return refusal(error)

    return handle


def _create(target: _Target) -> web.Response:
    try:
        body = target.call.json()
    except ValueError as error:
        raise invalid("The request body is not valid JSON.") from error
    request = parse(body, target.account, target.dialect)
    job = simulator(target.world).start(target.account, request)
    raw = job.raw[target.dialect]
    if target.dialect == "v1":
        return answer(raw)
    location = f"https://{target.call.host}/openai/fine_tuning/jobs/{job.id}"
    return answer(raw, 201, headers={"Location": location})


def _list(target: _Target) -> web.Response:
    after = target.call.query.get("after")
    limit = read_limit(target.call, _JOBS_LIMIT)
    try:
        page = target.account.page(target.dialect, after, limit)
    except KeyError as error:
        raise missing("fine-tuning job", str(after)) from error
    return listing(page, with_ids=True)


def _retrieve(target: _Target) -> web.Response:
    return answer(target.job().raw[target.dialect])


def _delete(target: _Target) -> web.Response:
    if target.dialect == "v1":
        return web.Response(status=405, headers={"Allow": "GET"})
    job = target.job()
    if job.status not in TERMINAL:
        raise invalid(f"A job that is {job.status} cannot be deleted.")
    simulator(target.world).release(job)
    target.account.remove(job.id)
    return nothing()


def _events(target: _Target) -> web.Response:
    job = target.job()
    return listing(_page(target, job, job.events, _EVENTS_LIMIT, "event"))


def _checkpoints(target: _Target) -> web.Response:
    job = target.job()
    page = _page(target, job, job.checkpoints, _CHECKPOINTS_LIMIT, "checkpoint")
    return listing(page, with_ids=True)


def _page(target: _Target, job: StoredJob, pages: Pages, default: int, what: str) -> Page:
    limit = read_limit(target.call, default)
    if job.page_size is not None:
        limit = min(limit, job.page_size)
    after = target.call.query.get("after")
    try:
        return pages.page(after, limit)
    except KeyError as error:
        raise missing(what, str(after)) from error


def _acting(
    played: Callable[[Training, float], None], settled: str
) -> Callable[[_Target], web.Response]:
    """Make a POST action: the simulator's where it plays the job, else a change of status."""

    def act(target: _Target) -> web.Response:
        job = target.job()
        now = time.time()
        training = simulator(target.world).training_of(job)
        if training is not None:
            played(training, now)
        elif job.status in TERMINAL:
            raise invalid(f"The job has already {job.status}.")
        else:
            changes: dict[str, object] = {"status": settled}
            if settled in TERMINAL:
                changes["finished_at"] = int(now)
            job.given["job"] = job.given["job"] | changes
            target.account.show(job, job.body | changes)
        return answer(job.raw[target.dialect])

    return act


_Action = Callable[[_Target], web.Response]

_ACTIONS: dict[tuple[str, bool, str | None], dict[str, _Action]] = {
    ("fine_tuning/jobs", False, None): {"GET": _list, "POST": _create},
    ("fine_tuning/jobs", True, None): {"GET": _retrieve, "DELETE": _delete},
    ("fine_tuning/jobs", True, "events"): {"GET": _events},
    ("fine_tuning/jobs", True, "checkpoints"): {"GET": _checkpoints},
    ("fine_tuning/jobs", True, "cancel"): {"POST": _acting(Training.cancel, "cancelled")},
    ("fine_tuning/jobs", True, "pause"): {"POST": _acting(Training.pause, "paused")},
    ("fine_tuning/jobs", True, "resume"): {"POST": _acting(Training.resume, "running")},
    ("files", False, None): {
        "GET": lambda t: files.list_files(t.call, t.account),
        "POST": lambda t: files.upload(t.call, t.account, t.dialect),
    },
    ("files", True, None): {
        "GET": lambda t: files.describe(t.account, t.id),
        "DELETE": lambda t: files.delete(t.account, t.id, t.dialect),
    },
    ("files", True, "content"): {"GET": lambda t: files.content(t.account, t.id)},
}
