"""A proxy that writes down what the app sends to the fine-tuning API and to W&B.

Stands between the Functions host and the sandbox in one pass that is not measured. What it
wrote down is what the floor sends again: the same requests with the same bytes.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import web
from yarl import URL

_MAX_BODY: Final = 64 * 1024 * 1024
_KEPT: Final = ("Authorization", "Content-Type", "User-Agent")
_HOP: Final = {"transfer-encoding", "content-encoding", "content-length", "connection"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request: where to, what, with which headers and body."""

    service: str
    method: str
    url: str
    headers: dict[str, str]
    body: str


class Recorder:
    """Two ports, one for Azure and one for W&B; everything passes, the data plane is kept."""

    def __init__(self, *, sandbox_url: str, wandb_url: str) -> None:
        self.requests: list[Recorded] = []
        self._targets = {"azure": sandbox_url, "wandb": wandb_url}
        self._urls: dict[str, str] = {}
        self._runners: list[web.ServerRunner] = []
        self._session: aiohttp.ClientSession | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Return the app's settings that lead it through the proxy."""
        return {"SANDBOX_URL": self._urls["azure"], "WANDB_BASE_URL": self._urls["wandb"]}

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        for name, target in self._targets.items():
            runner = web.ServerRunner(
                web.Server(self._handler(name, target), request_factory=_request, access_log=None)
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            self._runners.append(runner)
            self._urls[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _handler(self, name: str, target: str) -> Any:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            self._keep(name, target, request, body)
            assert self._session is not None, "the proxy answers only while it is entered"
            headers = {key: value for key, value in request.headers.items() if key != "Host"}
            async with self._session.request(
                request.method,
                URL(f"{target}{request.raw_path}", encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        return handle

    def _keep(self, name: str, target: str, request: web.BaseRequest, body: bytes) -> None:
        if name == "azure" and ".openai.azure.com/" not in request.raw_path:
            return
        headers = {key: request.headers[key] for key in _KEPT if key in request.headers}
        service = "wandb" if name == "wandb" else "openai"
        url = f"{target}{request.raw_path}"
        self.requests.append(Recorded(service, request.method, url, headers, body.decode()))


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY
    )
