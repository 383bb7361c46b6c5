"""The sandbox in this process with the training simulator running, and clients of it."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from openai import AsyncAzureOpenAI, AsyncOpenAI

from dev.sandbox import settings
from dev.sandbox.openai import jobs
from dev.sandbox.server import Sandbox, serve
from dev.sandbox.store import World

HOST = "contoso.openai.azure.com"


class JobsServer:
    """A running sandbox: the port of Azure's hosts, and what talks to it."""

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
        # As a stream: aiohttp warns of large bodies given as bytes.
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        async with self.session.request(method, url, data=data, headers=headers) as answer:
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
    world = World(base_url="", wandb_url="", host_url="")
    settings.of(world).openai_role_s = 0.0
    runner = await serve(Sandbox(world).handle_azure, 0)
    clock = asyncio.create_task(jobs.simulate(world))
    try:
        async with aiohttp.ClientSession() as session:
            yield JobsServer(f"http://127.0.0.1:{runner.addresses[0][1]}", world, session)
    finally:
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        await runner.cleanup()


MODEL = "gpt-4o-mini-2024-07-18"
ROWS = b'{"messages": [{"role": "user", "content": "What is two and two?"}]}\n' * 30
FAST = {"seconds_per_step": 0.001, "queue_seconds": 0.02, "finish_seconds": 0.01}


async def create_job(client: AsyncOpenAI, **changes: Any) -> Any:
    """Upload a training and a validation file and make a job of them."""
    files = []
    for name in ("train.jsonl", "valid.jsonl"):
        made = await client.files.create(file=(name, ROWS), purpose="fine-tune")
        files.append(made.id)
    body = {"model": MODEL, "training_file": files[0], "validation_file": files[1]} | changes
    return await client.fine_tuning.jobs.create(**body)


async def until(client: AsyncOpenAI, job: str, *statuses: str) -> Any:
    """Return the job once it has one of the statuses."""
    end = time.monotonic() + 10
    while True:
        found = await client.fine_tuning.jobs.retrieve(job)
        if found.status in statuses:
            return found
        assert found.status != "failed", found.error
        assert time.monotonic() < end, f"still {found.status}"
        await asyncio.sleep(0.01)


async def events_of(client: AsyncOpenAI, job: str) -> list[Any]:
    """Return all events in the order of writing, which is how ties are listed."""
    found = [e async for e in client.fine_tuning.jobs.list_events(job, limit=25)]
    return sorted(found, key=lambda event: event.created_at)
