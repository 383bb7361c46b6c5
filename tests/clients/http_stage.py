"""A server that answers as it is told, and notes what it was asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Answering:
    """`answers` are used up in order; the last one stays. An answer may be a drop (None)."""

    url: str = ""
    answers: list[Any] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.path_qs, headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, headers, content = answer
        return web.Response(status=status, headers=headers, body=content)


@asynccontextmanager
async def answering(*answers: Any) -> AsyncIterator[Answering]:
    """Run the server on a free port. An answer is (status, headers, body), or None to hang up."""
    server = Answering(answers=list(answers))
    runner = web.ServerRunner(web.Server(server.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
