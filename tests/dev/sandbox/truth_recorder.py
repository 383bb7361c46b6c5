"""A proxy in front of the sandbox that keeps every answer the product is given."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

_HOP = {"transfer-encoding", "content-encoding", "content-length", "connection"}


@dataclass(frozen=True)
class Answered:
    """One exchange. `body` is the answer's JSON, its text where it is none, None when empty."""

    service: str
    method: str
    path: str
    sent: Any
    status: int
    headers: Mapping[str, str]
    body: Any

    def __str__(self) -> str:
        return f"{self.service} {self.method} {self.path} -> {self.status}"


@dataclass
class Recorder:
    """Give the host `environ`, then say with `join` where the sandbox is."""

    answers: list[Answered] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    _targets: "asyncio.Future[dict[str, str]]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def join(self, sandbox_url: str, wandb_url: str) -> None:
        """Let waiting and later requests through."""
        self._targets.set_result({"azure": sandbox_url, "wandb": wandb_url})

    async def pass_on(
        self, side: str, request: web.BaseRequest, session: aiohttp.ClientSession
    ) -> web.Response:
        target = (await self._targets)[side]
        sent = await request.read()
        headers = {key: value for key, value in request.headers.items() if key != "Host"}
        async with session.request(
            request.method,
            URL(f"{target}{request.raw_path}", encoded=True),
            headers=headers,
            data=sent or None,
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        service, path = _place(side, request.raw_path)
        shown = Answered(
            *(service, request.method, path, _json(sent), answer.status, kept, _json(body))
        )
        self.answers.append(shown)
        return web.Response(status=answer.status, headers=kept, body=body)


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    loop = asyncio.get_running_loop()
    runners = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for side, name in (("azure", "SANDBOX_URL"), ("wandb", "WANDB_BASE_URL")):

            async def handle(request: web.BaseRequest, side: str = side) -> web.Response:
                return await recorder.pass_on(side, request, session)

            def made(*parts: Any) -> web.BaseRequest:
                return web.BaseRequest(*parts, loop, client_max_size=2**26)

            runner = web.ServerRunner(web.Server(handle, request_factory=made, access_log=None))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            runners.append(runner)
            recorder.environ[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield recorder
        finally:
            for runner in runners:
                await runner.cleanup()


def _place(side: str, raw: str) -> tuple[str, str]:
    """Return the service and the path below its host, without the query."""
    path = unquote(raw.partition("?")[0])
    if side == "wandb":
        return "wandb", path
    host, _, rest = path.removeprefix("/_host/").partition("/")
    for ending, service in (
        ("management.azure.com", "arm"),
        (".vault.azure.net", "vault"),
        (".openai.azure.com", "openai"),
    ):
        if host.endswith(ending):
            return service, "/" + rest.lstrip("/")
    return host, "/" + rest


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
