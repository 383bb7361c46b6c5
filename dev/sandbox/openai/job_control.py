"""The control paths: what an account's fine-tuning API answers, set from outside.

Decides what a control body may say and how a later one completes an earlier one. Job objects,
events and checkpoints go out as they came in; nothing is corrected.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import orjson
from aiohttp import web

from dev.sandbox.http import Call, Routes, json_response
from dev.sandbox.openai import access
from dev.sandbox.openai import files as stored_files
from dev.sandbox.openai.job_store import AccountJobs, StoredFile, StoredJob, account_jobs
from dev.sandbox.openai.pages import Pages
from dev.sandbox.openai.simulator import simulator
from dev.sandbox.openai.simulator_settings import changed
from dev.sandbox.store import World

_FIELDS = (
    "job",
    "events",
    "checkpoints",
    "result_csv",
    "result_encoding",
    "files",
    "order",
    "page_size",
)
_ORDERS = ("newest", "written", "given")
"""Newest first; newest first, but what was written in one second in the order of writing; as is."""
_FILE_FIELDS = ("filename", "purpose", "content", "content_base64")


def control(routes: Routes, world: World) -> None:
    """Add the control paths of jobs and of the training simulator.

    A wrong body raises ValueError that begins with the field; the caller answers 400.
    """

    def jobs_of(call: Call) -> AccountJobs:
        return account_jobs(world, call.params["account"])

    async def put_job(call: Call) -> web.Response:
        account, name = jobs_of(call), call.params["job"]
        given = checked(call.json(), name, account.jobs.get(name))
        job = account.jobs.get(name) or account.add(name)
        simulator(world).release(job)
        _apply(account, job, given)
        return json_response({"id": name, "events": len(job.events)})

    async def get_job(call: Call) -> web.Response:
        job = jobs_of(call).jobs.get(call.params["job"])
        if job is None:
            return _unknown(call)
        head = orjson.dumps({"job": job.body} | job.given)
        body = (
            head[:-1]
            + b',"events":'
            + job.events.everything()
            + b',"checkpoints":'
            + job.checkpoints.everything()
            + b"}"
        )
        return web.Response(body=body, content_type="application/json")

    async def list_jobs(call: Call) -> web.Response:
        return json_response(list(jobs_of(call).jobs))

    async def delete_job(call: Call) -> web.Response:
        account = jobs_of(call)
        job = account.jobs.get(call.params["job"])
        if job is None:
            return _unknown(call)
        simulator(world).release(job)
        for identifier in job.given.get("files", ()):
            account.files.pop(identifier, None)
        _remove_result(account, job)
        account.remove(job.id)
        return json_response({"deleted": job.id})

    async def put_simulator(call: Call) -> web.Response:
        played = simulator(world)
        played.settings = changed(played.settings, call.json())
        return json_response(asdict(played.settings))

    async def get_simulator(call: Call) -> web.Response:
        return json_response(asdict(simulator(world).settings))

    async def put_account_access(call: Call) -> web.Response:
        return access.put_access(world, call)

    one = "/_sandbox/accounts/<account>/jobs/<job>"
    routes.add("PUT", one, put_job)
    routes.add("GET", one, get_job)
    routes.add("DELETE", one, delete_job)
    routes.add("GET", "/_sandbox/accounts/<account>/jobs", list_jobs)
    routes.add("PUT", "/_sandbox/accounts/<account>/access", put_account_access)
    routes.add("PUT", "/_sandbox/simulator", put_simulator)
    routes.add("GET", "/_sandbox/simulator", get_simulator)


def checked(body: Any, name: str, known: StoredJob | None) -> dict[str, Any]:
    """Return the body of a PUT once all of it is sound. Raises ValueError naming the field."""
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    for key in body:
        if key not in _FIELDS:
            raise ValueError(f"{key}: unknown field")
    if "job" in body:
        if not isinstance(body["job"], dict):
            raise ValueError("job: must be an object")
        if body["job"].setdefault("id", name) != name:
            raise ValueError(f"job.id: must be {name}, the id in the path")
    elif known is None:
        raise ValueError("job: needed the first time")
    for key in ("events", "checkpoints"):
        items = body.get(key, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{key}: must be a list of objects")
    if not isinstance(body.get("result_csv"), str | None):
        raise ValueError("result_csv: must be a text, or null to remove it")
    if body.get("result_encoding", "plain") not in ("plain", "base64"):
        raise ValueError("result_encoding: plain or base64")
    if body.get("order", "newest") not in _ORDERS:
        raise ValueError(f"order: {', '.join(_ORDERS)}")
    size = body.get("page_size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError("page_size: must be a whole number from 1 up, or null")
    _check_files(body.get("files", {}))
    return body


def _check_files(files: Any) -> None:
    if not isinstance(files, dict):
        raise ValueError("files: must be an object of file ids")
    for identifier, spec in files.items():
        where = f"files.{identifier}"
        if spec is None:
            continue
        if not isinstance(spec, dict):
            raise ValueError(f"{where}: must be an object, or null to remove it")
        for key, value in spec.items():
            if key not in _FILE_FIELDS:
                raise ValueError(f"{where}.{key}: unknown field")
            if not isinstance(value, str):
                raise ValueError(f"{where}.{key}: must be a text")
        if ("content" in spec) == ("content_base64" in spec):
            raise ValueError(f"{where}: give content or content_base64")
        try:
            _content(spec)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"{where}.content_base64: is not base64") from error


def _apply(account: AccountJobs, job: StoredJob, given: dict[str, Any]) -> None:
    job.page_size = given.get("page_size", job.page_size)
    order = given.get("order", job.given.get("order", "newest"))
    if "events" in given:
        job.events = _pages(given["events"], order, _event_age)
    if "checkpoints" in given:
        job.checkpoints = _pages(given["checkpoints"], order, _checkpoint_age)
    for identifier, spec in given.get("files", {}).items():
        if spec is None:
            account.files.pop(identifier, None)
        else:
            account.files[identifier] = StoredFile(
                id=identifier,
                filename=spec.get("filename", identifier),
                purpose=spec.get("purpose", "fine-tune"),
                content=_content(spec),
            )
    files = job.given.get("files", {}) | given.get("files", {})
    _remove_result(account, job)
    kept = {k: v for k, v in given.items() if k not in ("events", "checkpoints", "files")}
    # A job that the simulator played so far is continued from what it last showed.
    job.given = {"job": job.body} | job.given | kept
    job.given["files"] = {key: spec for key, spec in files.items() if spec is not None}
    _serve_result(account, job)


def _serve_result(account: AccountJobs, job: StoredJob) -> None:
    """Show the job as given, with its result file where there is one."""
    body = dict(job.given["job"])
    text = job.given.get("result_csv")
    if text is not None:
        named = body.get("result_files")
        if not (isinstance(named, list) and named):
            # The same id each time, so that a job that advances keeps its file.
            named = [f"file-{uuid5(NAMESPACE_OID, job.id).hex}"]
            body["result_files"] = named
        encoding = job.given.get("result_encoding", "plain")
        account.files[str(named[0])] = StoredFile(
            id=str(named[0]),
            filename=stored_files.FILENAME,
            purpose="fine-tune-results",
            content=stored_files.encode(text, encoding),
        )
    account.show(job, body)


def _remove_result(account: AccountJobs, job: StoredJob) -> None:
    if job.given.get("result_csv") is not None:
        account.files.pop(str(job.body["result_files"][0]), None)


def _pages(
    items: list[dict[str, Any]],
    order: str,
    age: Callable[[dict[str, Any]], tuple[float, float]],
) -> Pages:
    if order == "newest":
        items = sorted(items, key=age)
    elif order == "written":
        items = sorted(sorted(items, key=lambda item: -age(item)[1]), key=lambda item: age(item)[0])
    return Pages.newest_first(items)


def _event_age(event: dict[str, Any]) -> tuple[float, float]:
    data = event.get("data")
    step = data.get("step") if isinstance(data, dict) else None
    return -_number(event.get("created_at")), -_number(step)


def _checkpoint_age(checkpoint: dict[str, Any]) -> tuple[float, float]:
    return -_number(checkpoint.get("created_at")), -_number(checkpoint.get("step_number"))


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else 0.0


def _content(spec: dict[str, str]) -> bytes:
    if "content" in spec:
        return spec["content"].encode()
    return base64.b64decode(spec["content_base64"], validate=True)


def _unknown(call: Call) -> web.Response:
    message = f"no job {call.params['job']} on account {call.params['account']}"
    return json_response({"error": message}, status=404)
