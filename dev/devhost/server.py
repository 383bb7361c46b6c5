"""The listening socket: which part of the host answers which path.

Built on aiohttp's low-level server, without its application layer: this host has four kinds
of paths, and benchmarks run through it.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable

from aiohttp import web

from dev.devhost import admin, eventgrid
from dev.devhost.admin import Admin
from dev.devhost.config import PortTakenError
from dev.devhost.eventgrid import EventGridWebhook
from dev.devhost.http_functions import HttpFunctions
from dev.devhost.keys import Keys

_MAX_BODY = 100 * 1024 * 1024
_BACKLOG = 1024


class Server:
    """Serves the host's paths on one port."""

    def __init__(
        self,
        http: HttpFunctions,
        webhook: EventGridWebhook,
        admin_api: Admin,
        keys: Keys | None,
        bind: str,
    ) -> None:
        self._keys = keys
        self._http = http
        self._webhook = webhook
        self._admin = admin_api
        self._bind = bind
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    async def start(self, port: int) -> int:
        """Listen on `port` (0: any free one) and return it. Raises PortTakenError."""
        server = web.Server(self._answer, request_factory=_request, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, self._bind, port, backlog=_BACKLOG)
        try:
            await self._site.start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(
                    f"port {port} is taken; choose another with --port or HOST_PORT"
                ) from error
            raise
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop_listening(self) -> None:
        """Refuse new connections; those being served go on."""
        if self._site is not None:
            await self._site.stop()

    async def close(self) -> None:
        """Let answers under way be written for a moment, then close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.path
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
        if path.startswith(admin.PREFIX):
            keys = None if path.lower() == admin.PING else self._keys
            if keys and (status := keys.refuse_admin(request)):
                return web.Response(status=status)
            answer = self._admin.answer
        elif path.lower() == eventgrid.PATH:
            answer = self._webhook.answer
        elif path == "/":
            return web.Response(text="The function app is running.\n")
        else:
            answer = self._http.answer
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Clients with a large body wait for this; aiohttp sends it only from its
            # application layer.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            return await answer(request)
        except web.HTTPRequestEntityTooLarge:
            return web.Response(status=500)


def _request(message, payload, protocol, writer, task) -> web.BaseRequest:  # type: ignore[no-untyped-def]
    """Build a request that may carry a body as large as the cloud's limit."""
    return web.BaseRequest(
        message,
        payload,
        protocol,
        writer,
        task,
        asyncio.get_running_loop(),
        client_max_size=_MAX_BODY,
    )
