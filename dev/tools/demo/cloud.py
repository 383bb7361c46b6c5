"""The customer's side of the story, over plain HTTP: Azure as people change it, and what they see.

Drives the sandbox (Resource Manager paths and control paths) and asks the function app; the
end-to-end tests stand on it too. Azure's fine-tuning API is used through its SDK, in api.py.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp


class StoryError(Exception):
    """The story cannot go on; the text says what is missing and where to look."""


Json = dict[str, Any]
SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
"""The sandbox's own, and the one of the sample settings."""
PROJECT: Final = "sandbox-team/azure-openai-fine-tuning"
"""Where runs go under the sample settings."""
KEY: Final = "wandb_v1_" + "a" * 77
"""A key of the shape that the sandbox's W&B takes."""
ACCOUNTS_API: Final = "2025-06-01"
_VAULTS_API: Final = "2024-11-01"
_HOST_PATIENCE_S: Final = 60.0
"""A host that was killed is back in a few seconds, later on a busy machine."""


async def until[T](
    look: Callable[[], Awaitable[T | None]],
    what: str | Callable[[], str],
    *,
    seconds: float = 60.0,
    every: float = 0.25,
) -> T:
    """Look again and again until there is something, and return it.

    Raises StoryError with `what` (a text, or what makes it) after so many seconds.
    """
    end = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None:
            return found
        if time.monotonic() > end:
            text = what if isinstance(what, str) else what()
            raise StoryError(f"{text} (waited {seconds:.0f} s)")
        await asyncio.sleep(every)


class Cloud:
    """One sandbox and the function app that is joined to it."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        sandbox_url: str,
        host_url: str,
        subscription: str = SUBSCRIPTION,
        group: str = "rg-demo",
        vault: str = "kv-sandbox",
        secret: str = "wandb-api-key",  # noqa: S107 - the name of a secret, not its value
    ) -> None:
        self.http = http
        self.sandbox_url = sandbox_url
        self.host_url = host_url
        self.subscription = subscription
        self.group = group
        self.vault = vault
        self.secret = secret

    # Azure, as people change it

    def account_id(self, name: str) -> str:
        return self._resource("Microsoft.CognitiveServices/accounts", name)

    def vault_id(self, name: str = "") -> str:
        return self._resource("Microsoft.KeyVault/vaults", name or self.vault)

    def _resource(self, kind: str, name: str) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/{kind}/{name}"

    async def arm(self, method: str, path: str, version: str, body: Any = None) -> Any:
        """Call Resource Manager and return its answer. Raises StoryError when it refuses."""
        url = f"{self.sandbox_url}{path}?api-version={version}"
        return await self._sandbox(method, url, body)

    async def put_vault(self, name: str = "", **properties: Any) -> str:
        """Create a Key Vault, by default one that works with Azure roles; return its id."""
        body = {
            "location": "swedencentral",
            "properties": {
                "sku": {"family": "A", "name": "standard"},
                "enableRbacAuthorization": True,
                **properties,
            },
        }
        await self.arm("PUT", self.vault_id(name), _VAULTS_API, body)
        return self.vault_id(name)

    async def put_secret(self, value: str, *, enabled: bool = True, days: float = 180) -> str:
        """Store a new version of the secret and return the version."""
        expires = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"vaults/{self.vault}/secrets/{self.secret}"
        body = {"value": value, "enabled": enabled, "expires": expires}
        return str((await self.control("PUT", path, body))["version"])

    async def put_account(self, name: str, *, kind: str = "OpenAI", **more: Any) -> str:
        """Create an Azure OpenAI account, or change it; return its id."""
        body = {
            "kind": kind,
            "location": "swedencentral",
            "sku": {"name": "S0"},
            "properties": {"customSubDomainName": name},
            **more,
        }
        await self.arm("PUT", self.account_id(name), ACCOUNTS_API, body)
        return self.account_id(name)

    async def read_account(self, name: str) -> Json:
        """Return the account as Resource Manager shows it."""
        return dict(await self.arm("GET", self.account_id(name), ACCOUNTS_API))

    def account_written(self, account: str, **changes: Any) -> Json:
        """Return Resource Manager's event about a write to an account, in Event Grid's schema."""
        data = {
            "resourceUri": account,
            "operationName": "Microsoft.CognitiveServices/accounts/write",
            "status": "Succeeded",
            "subscriptionId": self.subscription,
            **changes.pop("data", {}),
        }
        return {
            "id": str(uuid.uuid4()),
            "topic": f"/subscriptions/{self.subscription}",
            "subject": account,
            "eventType": "Microsoft.Resources.ResourceWriteSuccess",
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.0000000Z", time.gmtime()),
            "data": data,
            "dataVersion": "2",
            "metadataVersion": "1",
            **changes,
        }

    async def put_job(self, account: str, job_id: str, **body: Any) -> None:
        """Set what the fine-tuning API answers for a job: `job`, `events`, `checkpoints`, …"""
        await self.control("PUT", f"accounts/{account}/jobs/{job_id}", body)

    async def read_job(self, account: str, job_id: str) -> Json:
        """Return a job with all its events and checkpoints, as the sandbox holds it."""
        return dict(await self.control("GET", f"accounts/{account}/jobs/{job_id}"))

    def endpoint(self, account: str) -> str:
        """Return where an account's own API answers."""
        return f"{self.sandbox_url}/_host/{account}.openai.azure.com"

    # The sandbox's control paths

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control path and return its answer. Raises StoryError when it refuses."""
        return await self._sandbox(method, f"{self.sandbox_url}/_sandbox/{path}", body)

    async def run(self, path: str) -> Json | None:
        """Return what the sandbox's W&B holds of ENTITY/PROJECT/RUN, None when there is none."""
        url = f"{self.sandbox_url}/_sandbox/wandb/runs/{path}"
        async with self.http.get(url) as answer:
            return dict(await answer.json()) if answer.status == 200 else None

    async def requests(self, service: str = "") -> list[Json]:
        """Return the requests since the last `forget_requests`: a service's, or all."""
        found = await self.control("GET", "requests")
        return [item for item in found if service in ("", item["service"])]

    async def forget_requests(self) -> None:
        await self.control("DELETE", "requests")

    async def _sandbox(self, method: str, url: str, body: Any) -> Any:
        headers = {"Authorization": "Bearer demo"}
        async with self.http.request(method, url, json=body, headers=headers) as answer:
            if answer.status >= 300:
                text = (await answer.text())[:500]
                raise StoryError(f"the sandbox refused {method} {url}: {answer.status} {text}")
            return await answer.json() if "json" in answer.content_type else None

    # The function app, as people see it

    async def app(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Call the function app and return status and answer; a host that is down is waited for.

        Raises StoryError when it does not come back.
        """

        async def look() -> tuple[int, Any] | None:
            url = f"{self.host_url}{path}"
            try:
                async with self.http.request(method, url, json=body, headers=headers) as answer:
                    is_json = "json" in answer.content_type
                    return answer.status, (await answer.json() if is_json else None)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                return None

        return await until(look, "the Functions host does not answer", seconds=_HOST_PATIENCE_S)

    async def status(self) -> Json:
        """Return the answer of /api/status, asking again while the app is still coming up."""

        async def look() -> Json | None:
            code, answer = await self.app("GET", "/api/status")
            return dict(answer) if code == 200 else None

        return await until(look, "/api/status does not answer 200")

    async def shown_account(self, name: str) -> Json | None:
        """Return an account as /api/status shows it."""
        return _pick((await self.status())["accounts"], "name", name)

    async def shown_job(self, job_id: str) -> Json | None:
        """Return a job as /api/status shows it."""
        return _pick((await self.status())["jobs"], "id", job_id)

    async def shown_key(self) -> Json | None:
        """Return the secret's key as /api/status shows it."""
        return _pick((await self.status())["keys"], "secret", self.secret)


def _pick(items: list[Json], name: str, value: str) -> Json | None:
    # Azure's names mean the same in any case; events bring all spellings of them.
    return next((item for item in items if item[name].lower() == value.lower()), None)
