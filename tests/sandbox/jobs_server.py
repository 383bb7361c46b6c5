"""A server with nothing but the fine-tuning stand-in, for tests in this folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from openai import AsyncAzureOpenAI, AsyncOpenAI

from sandbox import jobs
from sandbox.http import Call, Routes
from sandbox.store import World

HOST = "contoso.openai.azure.com"


async def _not_found(call: Call) -> web.StreamResponse:
    return web.Response(status=404, text=call.path)


class JobsServer:
    """The API of all hosts below `/_host/`, and the control paths, on one free port."""

    def __init__(self, url: str, world: World, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.world = world
        self.session = session

    def host(self, name: str = HOST) -> str:
        return f"{self.url}/_host/{name}"

    async def call(
        self, method: str, url: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Return status, body (parsed where it is JSON) and headers of one authorised call."""
        headers = {"api-key": "k", **headers}
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            if "json" in answer.headers.get("Content-Type", ""):
                return answer.status, await answer.json(), answer.headers
            return answer.status, await answer.read(), answer.headers

    async def get(self, path: str, host: str = HOST) -> Any:
        status, body, _ = await self.call("GET", self.host(host) + path)
        assert status == 200, body
        return body

    async def put_job(self, job: str, body: dict[str, Any], account: str = "contoso") -> Any:
        url = f"{self.url}/_sandbox/accounts/{account}/jobs/{job}"
        status, answer, _ = await self.call("PUT", url, body)
        assert status == 200, answer
        return answer

    async def set_simulator(self, **settings: Any) -> None:
        status, answer, _ = await self.call("PUT", f"{self.url}/_sandbox/simulator", settings)
        assert status == 200, answer

    def azure(self) -> AsyncAzureOpenAI:
        """The official client of the dated API."""
        return AsyncAzureOpenAI(
            azure_endpoint=self.host(), api_key="k", api_version="2024-10-21", max_retries=0
        )

    def openai(self, path: str = "/openai/v1", host: str = HOST) -> AsyncOpenAI:
        """The official client of the v1 API, which sends the key as a bearer token."""
        return AsyncOpenAI(base_url=self.host(host) + path, api_key="token", max_retries=0)


@asynccontextmanager
async def jobs_server() -> AsyncIterator[JobsServer]:
    world = World(base_url="http://sandbox", wandb_url="", host_url="")
    api = jobs.routes(world)
    controls = Routes(_not_found)
    jobs.control(controls, world)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        raw = request.rel_url.raw_path
        host, path, handler = "sandbox", raw, controls.__call__
        if raw.startswith("/_host/"):
            host, _, rest = raw.removeprefix("/_host/").partition("/")
            path, handler = f"/{rest}", api
        call = Call(
            request=request,
            service="openai",
            host=host,
            method=request.method,
            path=path,
            query=request.rel_url.query,
            headers=request.headers,
            body=await request.read(),
        )
        return await handler(call)

    runner = web.ServerRunner(web.Server(handle, access_log=None, client_max_size=2**30))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as session:
            yield JobsServer(f"http://127.0.0.1:{port}", world, session)
    finally:
        await runner.cleanup()
