"""The W&B port: dispatch, who may pass, and the write path of a run (`file_stream`).

GraphQL, file_stream and file downloads need a key; presigned storage addresses and the vendor's
telemetry do not. Every request is counted under the key that it carried, by digest. One post
changes rows at their offsets, the summary line, console lines and the state; it is taken whole
or not at all.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from dev.sandbox.http import Call, Handler, Routes, json_response
from dev.sandbox.store import World
from dev.sandbox.wandb import control as wandb_control
from dev.sandbox.wandb import graphql as wandb_graphql
from dev.sandbox.wandb.artifacts import STORAGE, answer_storage, content
from dev.sandbox.wandb.keys import (
    Key,
    Refusal,
    digest_of,
    graphql_refusal,
    key_of,
    permission_denied,
    plain_refusal,
)
from dev.sandbox.wandb.lines import Lines, json_or_refuse, loads
from dev.sandbox.wandb.read_artifacts import download
from dev.sandbox.wandb.schema import Context
from dev.sandbox.wandb.store import Hub, Run, hub

HISTORY = "wandb-history.jsonl"
SUMMARY = "wandb-summary.json"

# A kept gap is kept line by line; a larger offset is a client's arithmetic gone wrong.
_MAX_LINE = 10_000_000

# What the service reports beside `stopped`; clients read only that one.
_LIMITS = {
    "rate_limit": "400/s",
    "system_metrics": "2/m",
    "noContact": False,
    "restricted": False,
    "private_projects": True,
}


@dataclass(slots=True)
class Chunk:
    """Consecutive lines of one stream."""

    name: str
    offset: int
    lines: list[str]


def take_post(hub: Hub, key: Key, path: tuple[str, str, str], body: bytes) -> web.Response:
    """Take one post. Raises 404 for an unknown run, 403, 400 for a body that is not one."""
    entity, project, name = path
    if not key.may_write(entity, project):
        raise permission_denied()
    run = hub.run(entity, project, name)
    if run is None:
        raise Refusal(404, f"run {entity}/{project}/{name} not found")
    if _too_fast(hub, run):
        return json_response(
            {"error": "rate limit exceeded"},
            status=429,
            headers={"Retry-After": "1", "RateLimit-Remaining": "0", "RateLimit-Reset": "1"},
        )
    post = _parse(body)
    chunks = [_chunk(file, chunk) for file, chunk in post["files"].items()]
    stopped = run.stopped
    for chunk in chunks:
        _write(run, chunk, close_gaps=hub.settings.gaps == "close")
    _move(hub, run, post)
    return json_response({"exitcode": run.exitcode, "limits": _LIMITS, "stopped": stopped})


def _too_fast(hub: Hub, run: Run) -> bool:
    rate = hub.settings.file_stream_per_run_per_s
    if rate is None:
        return False
    now = hub.clock()
    run.recent_posts = [at for at in run.recent_posts if now - at < 1.0]
    if len(run.recent_posts) >= rate:
        return True
    run.recent_posts.append(now)
    return False


def _parse(body: bytes) -> dict[str, Any]:
    try:
        post = loads(body) if body else {}
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(post, dict) or not isinstance(post.setdefault("files", {}), dict):
        raise Refusal(400, "the body must be an object, its `files` too")
    exitcode = post.get("exitcode")
    if exitcode is not None and not isinstance(exitcode, int):
        raise Refusal(400, "exitcode must be an integer")
    return post


def _chunk(name: str, chunk: Any) -> Chunk:
    offset = chunk.get("offset", 0) if isinstance(chunk, dict) else None
    lines = chunk.get("content", []) if isinstance(chunk, dict) else None
    if not isinstance(offset, int) or offset < 0 or not isinstance(lines, list):
        raise Refusal(400, f"{name}: offset must be a line number and content a list")
    if offset + len(lines) > _MAX_LINE:
        raise Refusal(400, f"{name}: offset {offset} is beyond the longest stream")
    if not all(isinstance(line, str) for line in lines):
        raise Refusal(400, f"{name}: content must be a list of strings")
    # A look at the first character is what a thousand rows per millisecond allow.
    if name in (HISTORY, SUMMARY) and not all(line[:1] == "{" for line in lines):
        raise Refusal(400, f"{name}: every line must be a JSON object")
    if name == SUMMARY and lines:
        json_or_refuse(lines[-1], name)
    return Chunk(name, offset, lines)


def _write(run: Run, chunk: Chunk, *, close_gaps: bool) -> None:
    if chunk.name == SUMMARY:
        if chunk.lines:
            run.summary_line = chunk.lines[-1]
        return
    stream = run.history if chunk.name == HISTORY else run.streams.setdefault(chunk.name, Lines())
    stream.write(min(chunk.offset, len(stream)) if close_gaps else chunk.offset, chunk.lines)


def _move(hub: Hub, run: Run, post: dict[str, Any]) -> None:
    now = hub.clock()
    run.posts += 1
    run.measure(now)
    run.beat(now, hub.settings.silence_s)
    if post.get("preempting"):
        run.state = "preempting"
    if post.get("complete"):
        run.finish(post.get("exitcode") or 0)


_TELEMETRY = "/sdk/otel/"


def routes(world: World) -> Handler:
    """Return the handler of the whole W&B port."""

    async def answer(call: Call) -> web.StreamResponse:
        service = hub(world)
        if call.path.startswith(_TELEMETRY):
            return web.Response()
        try:
            if call.path.startswith(STORAGE):
                return answer_storage(call, service.blobs, service.clock())
            return _keyed(service, call)
        except Refusal as refusal:
            return plain_refusal(refusal)

    return answer


def control(routes: Routes, world: World) -> None:
    """Register the W&B part of the control paths."""
    wandb_control.register(routes, world)


def _keyed(service: Hub, call: Call) -> web.Response:
    value = key_of(call.headers.get("Authorization"))
    parts = [unquote(part) for part in call.path.split("/")[1:]]
    operation = field = run = None
    try:
        if call.method == "POST" and parts == ["graphql"]:
            try:
                ctx = _context(service, call, service.keys.authenticate(value))
                response, operation, field = wandb_graphql.answer(ctx, call.body)
                run = ctx.run
            except Refusal as refusal:
                response = graphql_refusal(refusal)
            return response
        if parts[0] == "files" and len(parts) > 4:
            run = "/".join(parts[1:4])
        return _path(service, call, service.keys.authenticate(value), parts)
    finally:
        short = None if value is None else digest_of(value)[:12]
        service.requests[short, call.method, call.path, operation, field, run] += 1


def _context(service: Hub, call: Call, key: Key) -> Context:
    base_url = f"{call.request.scheme}://{call.request.host}"
    return Context(service, key, base_url, call.headers.get("User-Agent", ""))


def _path(service: Hub, call: Call, key: Key, parts: list[str]) -> web.Response:
    """Answer the paths beside GraphQL."""
    match call.method, parts:
        case "POST", ["files", entity, project, run, "file_stream"]:
            path = (entity, project, run)
            return take_post(service, key, path, call.body)
        case "GET" | "HEAD", ["files", entity, project, run, *name]:
            return _run_file(service, key, (entity, project, run), "/".join(name))
        case "GET" | "HEAD", ["artifactsV2", _, entity, project, collection, *rest]:
            return _artifact_file(service, key, (entity, project, collection), rest)
    raise Refusal(404, "not found")


def _run_file(service: Hub, key: Key, path: tuple[str, str, str], name: str) -> web.Response:
    if not key.may_read(path[0]):
        raise permission_denied()
    run = service.run(*path)
    blob = run.uploaded().get(name) if run else None
    if blob is None:
        raise Refusal(404, "file not found")
    return content(blob)


def _artifact_file(
    service: Hub, key: Key, path: tuple[str, str, str], rest: list[str]
) -> web.Response:
    entity, project_name, collection_name = path
    if not key.may_read(entity):
        raise permission_denied()
    project = service.project(entity, project_name)
    collection = project.collections.get(collection_name) if project else None
    blob = download(rest, collection) if collection else None
    if blob is None:
        raise Refusal(404, "file not found")
    return content(blob)
