"""The W&B stand-in: dispatch of its port, and who may pass.

GraphQL, file_stream and file downloads need a key; presigned storage addresses and the vendor's
telemetry do not. Every request is counted under the key that it carried, by digest.
"""

from urllib.parse import unquote

from aiohttp import web

from dev.sandbox.http import Call, Handler, Routes
from dev.sandbox.store import World
from dev.sandbox.wandb import control as wandb_control
from dev.sandbox.wandb import filestream as wandb_filestream
from dev.sandbox.wandb import graphql as wandb_graphql
from dev.sandbox.wandb.errors import Refusal, graphql_refusal, permission_denied, plain_refusal
from dev.sandbox.wandb.files import STORAGE, answer_storage, content
from dev.sandbox.wandb.keys import Key, digest_of, key_of
from dev.sandbox.wandb.read_artifacts import download
from dev.sandbox.wandb.schema import Context
from dev.sandbox.wandb.store import Hub, hub

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
            return wandb_filestream.answer(service, key, path, call.body)
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
