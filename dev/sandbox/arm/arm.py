"""The ARM envelope: paths, api-version, authentication, error bodies, pages, slow operations.

Decides nothing about any resource; the providers' files do. Fixed parts of a path compare
without regard to case, names keep the case in which they came.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from aiohttp import web

from dev.sandbox import settings
from dev.sandbox.http import Call, json_response
from dev.sandbox.shelf import Shelf
from dev.sandbox.store import World

ENDPOINT = "https://management.azure.com"


class ArmError(Exception):
    """An answer other than success; becomes `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> web.Response:
        body = {"error": {"code": self.code, "message": self.message}}
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else None
        return json_response(body, self.status, headers)


ArmHandler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class ArmPath:
    """A path taken apart: its shape (`*` for names), the names, and where an extension starts."""

    shape: str
    names: tuple[str, ...]
    scope: str
    extension: str


def parse_path(path: str) -> ArmPath:
    """Take an ARM path apart. `scope` and `extension` split it at its last `providers`."""
    parts = [unquote(part) for part in path.split("/") if part]
    shape: list[str] = []
    names: list[str] = []
    last_provider = len(parts)
    index = 0
    while index < len(parts):
        key = parts[index].lower()
        shape.append(key)
        if index + 1 == len(parts):
            break
        if key == "providers":
            last_provider = index
            shape.append(parts[index + 1].lower())
        else:
            shape.append("*")
            names.append(parts[index + 1])
        index += 2
    return ArmPath(
        "/".join(shape),
        tuple(names),
        "/" + "/".join(parts[:last_provider]),
        "/".join(shape[last_provider:]),
    )


class ArmRoutes:
    """Routes by shape. `{name}` in a template is a name; extensions match below any scope."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, ArmHandler]] = {}
        self._extensions: dict[str, dict[str, ArmHandler]] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, method: str, template: str, handler: ArmHandler) -> None:
        self._add(self._routes, method, template, handler)

    def add_extension(self, method: str, template: str, handler: ArmHandler) -> None:
        """Add a route for `SCOPE/template`; the scope arrives as `call.params["scope"]`."""
        self._add(self._extensions, method, template, handler)

    def _add(
        self,
        table: dict[str, dict[str, ArmHandler]],
        method: str,
        template: str,
        handler: ArmHandler,
    ) -> None:
        shape = re.sub(r"\{\w+\}", "*", template).strip("/").lower()
        self._names[shape] = re.findall(r"\{(\w+)\}", template)
        table.setdefault(shape, {})[method] = handler

    async def __call__(self, call: Call) -> web.StreamResponse:
        try:
            response = await self._dispatch(call)
        except ArmError as error:
            response = error.response()
        request_id = str(uuid4())
        response.headers["x-ms-request-id"] = request_id
        response.headers["x-ms-correlation-request-id"] = request_id
        return response

    async def _dispatch(self, call: Call) -> web.Response:
        if "Authorization" not in call.headers:
            raise ArmError(
                401,
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is missing.",
            )
        # At the root people type paths by hand; there alone api-version may be left out.
        hosted = call.request.rel_url.raw_path.startswith("/_host/")
        if hosted and not call.query.get("api-version"):
            raise ArmError(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        path = parse_path(call.path)
        methods, names = self._routes.get(path.shape), path.names
        shape, params = path.shape, {}
        if methods is None:
            methods, shape = self._extensions.get(path.extension), path.extension
            names = names[-shape.count("*") :] if "*" in shape else ()
            params = {"scope": path.scope}
        if methods is None:
            raise ArmError(
                404,
                "InvalidResourceType",
                f"The resource type could not be found for the path '{call.path}'.",
            )
        handler = methods.get(call.method)
        if handler is None:
            raise ArmError(
                405, "MethodNotAllowed", f"The request method '{call.method}' is not allowed."
            )
        call.params = params | dict(zip(self._names[shape], names, strict=True))
        return await handler(call)


def read_object(call: Call) -> dict[str, Any]:
    """Return the body as an object. Raises ArmError 400 when it is none."""
    try:
        body = call.json()
    except ValueError as error:
        raise ArmError(
            400,
            "InvalidRequestContent",
            f"The request content was invalid and could not be deserialized: '{error}'.",
        ) from error
    if not isinstance(body, dict):
        raise ArmError(400, "InvalidRequestContent", "The request content must be a JSON object.")
    if not isinstance(body.get("properties") or {}, dict):
        raise ArmError(400, "InvalidRequestContent", "The property 'properties' must be an object.")
    return body


def written_id(call: Call) -> str:
    """Return the id of the resource that a path is about, in the case in which it was written."""
    return unquote("/".join(call.path.split("/")[:9]))


def not_found(resource_type: str, name: str, group: str) -> ArmError:
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{resource_type}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def now() -> str:
    """Return the time as ARM writes it: UTC, seven fractional digits, Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def list_page[T](
    world: World, call: Call, shelf: Shelf[T], scope: str, body_of: Callable[[T], dict[str, Any]]
) -> web.Response:
    """Answer one page of the resources below a scope, with an absolute nextLink if more follow.

    `$top` may make a page smaller than the setting, not larger.
    """
    size = settings.of(world).page_size
    top = call.query.get("$top", "")
    if top.isdecimal() and int(top) > 0:
        size = min(size, int(top))
    found, token = shelf.page(scope, call.query.get("$skiptoken"), size)
    body: dict[str, Any] = {"value": [body_of(item) for item in found]}
    if token is not None:
        query = {**dict(call.query), "$skiptoken": token}
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        body["nextLink"] = f"{ENDPOINT}{call.path}?{text}"
    return json_response(body)


@dataclass
class Operations:
    """Slow operations by id: None while running, then the status and body of the answer."""

    results: dict[str, tuple[int, Any] | None] = field(default_factory=dict)


def accepted(
    world: World,
    call: Call,
    location_path: str,
    body: Any,
    finish: Callable[[], tuple[int, Any]],
    *,
    seconds: float,
) -> web.Response:
    """Answer 202 with Location and Retry-After; `finish` runs after `seconds`.

    What `finish` returns, status and body, is what the Location answers from then on.
    """
    operations = world.part("arm.operations", Operations)
    operation = str(uuid4())
    operations.results[operation] = None

    def done() -> None:
        operations.results[operation] = finish()

    world.later(seconds, done)
    version = call.query.get("api-version", "2025-09-01")
    location = f"{ENDPOINT}{location_path}/operationResults/{operation}?api-version={version}"
    return json_response(body, 202, _wait_headers(world, location))


async def operation_result(world: World, call: Call) -> web.Response:
    """Answer a Location: 202 while it runs, then the operation's own answer."""
    operation = call.params["operation"]
    results = world.part("arm.operations", Operations).results
    if operation not in results:
        raise ArmError(404, "OperationNotFound", f"The operation '{operation}' was not found.")
    result = results[operation]
    if result is None:
        location = f"{ENDPOINT}{call.path}?{call.request.rel_url.raw_query_string}"
        return web.Response(status=202, headers=_wait_headers(world, location))
    status, body = result
    return web.Response(status=status) if body is None else json_response(body, status)


def _wait_headers(world: World, location: str) -> dict[str, str]:
    return {"Location": location, "Retry-After": str(settings.of(world).retry_after)}
