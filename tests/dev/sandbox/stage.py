"""What tests of the Azure stand-ins work with: a client, a Functions host, paths and bodies."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.dev.sandbox.sdk_transport import SandboxTransport

SUBSCRIPTION = "aaaaaaaa-0000-4000-8000-000000000001"
GROUP = "rg-one"


@dataclass(frozen=True)
class Process:
    """Where the running sandbox listens, and the port at which it expects the host."""

    url: str
    wandb_url: str
    host_port: int


@dataclass
class Client:
    """Plain HTTP to the sandbox: `arm` at the root, `control` below /_sandbox."""

    process: Process
    session: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Return status, JSON body (None when empty) and headers."""
        headers = {"Authorization": "Bearer any"} | headers
        headers = {name: value for name, value in headers.items() if value}
        url = self.process.url + path
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return (
                answer.status,
                (await answer.json() if text and is_json else None),
                answer.headers,
            )

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control path that must succeed, and return its answer."""
        status, answer, _ = await self.call(method, f"/_sandbox/{path}", body)
        assert status == 200, (path, answer)
        return answer

    async def settings(self, **values: Any) -> None:
        await self.control("PUT", "settings", values)

    def transport(self) -> SandboxTransport:
        return SandboxTransport(self.process.url)

    async def until(self, is_true: Callable[[Any], bool], path: str, seconds: float = 5) -> Any:
        """Read a control path until its answer is as wanted, or fail."""
        end = time.monotonic() + seconds
        while not is_true(answer := await self.control("GET", path)):
            assert time.monotonic() < end, answer
            await asyncio.sleep(0.02)
        return answer


@dataclass
class Host:
    """A Functions host's Event Grid endpoint: answers as told and keeps what came."""

    received: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        assert request.path == "/runtime/webhooks/eventgrid"
        function = request.query["functionName"]
        self.received.append((function, await request.json(), dict(request.headers)))
        if self.delays:
            await asyncio.sleep(self.delays.pop(0))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    def events(self, function: str) -> list[dict[str, Any]]:
        """Return what a function received in Event Grid's schema, one event per request."""
        return [body[0] for name, body, _ in self.received if name == function]

    async def wait_for(self, count: int, seconds: float = 8) -> None:
        end = time.monotonic() + seconds
        while len(self.received) < count:
            assert time.monotonic() < end, f"{len(self.received)} of {count} events came"
            await asyncio.sleep(0.02)


def account_path(name: str, subscription: str = SUBSCRIPTION, group: str = GROUP) -> str:
    return (
        f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.CognitiveServices/accounts/{name}"
    )


def vault_path(name: str, subscription: str = SUBSCRIPTION, group: str = GROUP) -> str:
    return (
        f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.KeyVault/vaults/{name}"
    )


def account_body(name: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "OpenAI",
        "location": "swedencentral",
        "sku": {"name": "S0"},
        "properties": {"customSubDomainName": name},
        **more,
    }
