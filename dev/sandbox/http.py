"""What one request looks like to a sandbox service, and how a service names its routes.

Azure and W&B address many hosts; the sandbox listens on two ports. A client names the host
it means in the path: `http://127.0.0.1:PORT/_host/NAME.vault.azure.net/secrets/…` is what
`https://NAME.vault.azure.net/secrets/…` is in the cloud. ARM also answers at the root.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy, MultiDictProxy
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule


class ConnectionDropped(Exception):
    """Raised by a service to close the connection without an answer."""


@dataclass(slots=True)
class Call:
    """One request, with the host it means and the path below that host (still URL-encoded)."""

    request: web.BaseRequest
    service: str
    host: str
    method: str
    path: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str]
    body: bytes
    params: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body as JSON, or None for an empty body. Raises ValueError when it is not."""
        return orjson.loads(self.body) if self.body else None


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def json_response(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with JSON, compact, as the services do."""
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


class Routes:
    """A service's routes. Patterns are werkzeug rules; `params` are decoded path parts."""

    def __init__(self, not_found: Handler) -> None:
        self._map = Map(strict_slashes=False, merge_slashes=False)
        self._not_found = not_found

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        self._map.add(Rule(pattern, methods=[method], endpoint=handler))

    async def __call__(self, call: Call) -> web.StreamResponse:
        adapter = self._map.bind("sandbox")
        try:
            handler, params = adapter.match(path_info=call.path, method=call.method)
        except MethodNotAllowed:
            return web.Response(status=405)
        except NotFound:
            return await self._not_found(call)
        # Matching works on the encoded path, so that %2F in a name stays inside its part.
        call.params = {name: unquote(str(value)) for name, value in params.items()}
        response: web.StreamResponse = await handler(call)
        return response
