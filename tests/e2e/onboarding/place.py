"""What the onboarding suites work with: the running stack, seen from outside over HTTP."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from dev.tools.local_stack import Stack

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GROUP = "rg-e2e"
SECRET = "wandb-api-key"
EXPIRES = "2028-01-01"
WRITE_METHODS = ("PUT", "PATCH", "POST", "DELETE")
Json = Any


def account_id(name: str, subscription: str = SUBSCRIPTION) -> str:
    return (
        f"/subscriptions/{subscription}/resourceGroups/{GROUP}"
        f"/providers/Microsoft.CognitiveServices/accounts/{name}"
    )


def vault_id(name: str, subscription: str = SUBSCRIPTION) -> str:
    return (
        f"/subscriptions/{subscription}/resourceGroups/{GROUP}"
        f"/providers/Microsoft.KeyVault/vaults/{name}"
    )


def key_of(name: str) -> str:
    """Return a key of W&B's shape that belongs to one test only."""
    return f"wandb_v1_{uuid.uuid5(uuid.NAMESPACE_URL, name).hex * 2}"


@dataclass
class Place:
    """One running stack. Many situations use it at the same time."""

    stack: Stack
    http: aiohttp.ClientSession
    entries: dict[str, Json] = field(default_factory=dict)
    """Accounts of the status answer by name, as last read by `watch`."""
    watcher: asyncio.Task[None] | None = None
    _read: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, method: str, url: str, body: Json = None) -> tuple[int, Json]:
        """Return status and JSON body, None when it is empty."""
        headers = {"Authorization": "Bearer any"}
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, (await answer.json() if text and is_json else None)

    async def arm(self, method: str, resource_id: str, body: Json = None) -> Json:
        """Call Azure Resource Manager as someone else than the app; must succeed."""
        status, answer = await self.call(
            method, f"{self.stack.sandbox_url}{resource_id}?api-version=2025-06-01", body
        )
        assert status < 300, (method, resource_id, status, answer)
        return answer

    async def control(self, method: str, path: str, body: Json = None) -> Json:
        status, answer = await self.call(method, f"{self.stack.sandbox_url}/_sandbox/{path}", body)
        assert status in (200, 204), (method, path, status, answer)
        return answer

    async def make_vault(self, name: str, **properties: Json) -> None:
        """Make a vault in RBAC mode unless told otherwise, without secrets."""
        body = {
            "location": "swedencentral",
            "properties": {
                "sku": {"family": "A", "name": "standard"},
                "enableRbacAuthorization": True,
                "accessPolicies": [],
            }
            | properties,
        }
        await self.arm("PUT", vault_id(name), body)

    async def put_secret(self, vault: str, **more: Json) -> str:
        """Store a new version; good unless told otherwise. Return its number."""
        body = {"value": key_of(vault), "expires": EXPIRES, "enabled": True} | more
        answer = await self.control("PUT", f"vaults/{vault}/secrets/{SECRET}", body)
        return str(answer["version"])

    async def make_account(self, name: str, *, tags: Mapping[str, str], **more: Json) -> Json:
        properties = more.pop("properties", {"customSubDomainName": name})
        body = {
            "kind": "OpenAI",
            "location": "swedencentral",
            "sku": {"name": "S0"},
            "properties": properties,
            "tags": dict(tags),
        } | more
        return await self.arm("PUT", account_id(name), body)

    async def account(self, name: str) -> Json:
        return await self.arm("GET", account_id(name))

    async def event(self, function: str, *events: Json) -> None:
        """Deliver events as they are; all must be taken."""
        answers = await self.control(
            "POST", "events", {"function": function, "events": list(events)}
        )
        assert all(200 <= item["status"] <= 204 for item in answers), answers

    async def resync(self, name: str, mode: str = "apply", wait: int = 60) -> Json:
        """Re-sync one account's integration and return what the pass found and did."""
        body = {
            "scope": "account",
            "account": account_id(name),
            "parts": ["integration"],
            "mode": mode,
        }
        status, answer = await self.call(
            "POST", f"{self.stack.host_url}/api/resync?wait={wait}", body
        )
        assert status == 200, (status, answer)
        (item,) = answer["items"]
        return item["results"][0]

    async def run_function(self, name: str) -> None:
        status, answer = await self.call(
            "POST", f"{self.stack.host_url}/admin/functions/{name}", {"input": ""}
        )
        assert status < 300, (status, answer)

    async def status(self) -> Json:
        status, answer = await self.call("GET", f"{self.stack.host_url}/api/status")
        assert status == 200, (status, answer)
        return answer

    async def watch(self) -> None:
        """Read the status again and again for everybody who waits, until cancelled."""
        while True:
            began = time.monotonic()
            self.entries = {item["name"]: item for item in (await self.status())["accounts"]}
            self._read.set()
            self._read = asyncio.Event()
            # On a busy machine, looking must not be what keeps it busy.
            await asyncio.sleep(max(0.3, 3 * (time.monotonic() - began)))

    async def entry_when(
        self, name: str, is_true: Callable[[Json], bool], seconds: float = 60
    ) -> Json:
        """Return the account's entry once it is as wanted; needs `watch`."""
        end = time.monotonic() + seconds
        seen: list[Json] = []
        while not ((entry := self.entries.get(name)) and is_true(entry)):
            if _brief(entry) not in seen:
                seen.append(_brief(entry))
            if self.watcher is not None and self.watcher.done():
                # The status could not be read: that is the failure, not what it did not show.
                self.watcher.result()
            if time.monotonic() > end:
                raise AssertionError(f"{name} was never as wanted, only {seen}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._read.wait(), 2)
        return entry

    async def requests(self) -> list[tuple[str, str, str, int]]:
        """Return (service, method, path, status) of every request since the log was cleared."""
        return [
            (item["service"], item["method"], item["path"], item["status"])
            for item in await self.control("GET", "requests")
            for _ in range(item["count"])
        ]

    async def writes(self, *names: str) -> list[str]:
        """Return the app's own writes to accounts and vaults of these names, sorted by path.

        As `PATCH account`, `PUT role`, `PUT policy`: nobody else writes in these ways.
        """
        found = []
        for service, method, path, status in await self.requests():
            kind = _kind_of(method, path)
            if service == "arm" and kind and any(f"/{name}" in path for name in names):
                found.append(f"{kind} {status}")
        return sorted(found)

    async def until(
        self, read: Callable[[], Awaitable[Json]], is_true: Callable[[Json], bool], seconds: float
    ) -> Json:
        """Return what `read` gives once it is as wanted."""
        end = time.monotonic() + seconds
        while not is_true(found := await read()):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.2)
        return found


def _kind_of(method: str, path: str) -> str:
    lower = path.lower()
    if method == "PATCH" and "/accounts/" in lower:
        return "PATCH account"
    if method == "PUT" and "/roleassignments/" in lower:
        return "PUT role"
    if method == "PUT" and "/accesspolicies/" in lower:
        return "PUT policy"
    return ""


def _brief(entry: Json) -> Json:
    if not entry:
        return "not there"
    return {
        "healthy": entry["healthy"],
        "findings": [item["cause"] for item in entry["findings"] if item["severity"] != "ok"],
        "steps": [(item["step"]["kind"], item["state"], item["code"]) for item in entry["steps"]],
    }


def causes(found: Json, severity: str) -> list[str]:
    """Return the cause codes of one severity in an entry or a re-sync's result, sorted."""
    return sorted(item["cause"] for item in found["findings"] if item["severity"] == severity)


def steps(found: Json) -> dict[str, str]:
    """Return each step's end by its kind."""
    return {item["step"]["kind"]: item["state"] for item in found["steps"]}
