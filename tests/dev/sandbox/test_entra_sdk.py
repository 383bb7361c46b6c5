"""azure-identity gets tokens from the sandbox's Entra, async and sync (with MSAL's discovery)."""

import asyncio
import base64
import json
import time
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import ClientSecretCredential as SyncCredential
from azure.identity.aio import ClientSecretCredential

from dev.sandbox import tokens
from tests.dev.sandbox.stage import Client

TENANT = "40000000-0000-4000-8000-000000000004"
APP = "20000000-0000-4000-8000-000000000002"
SCOPE = "https://vault.azure.net/.default"


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def test_token_names_app_and_tenant_when_asked_with_a_secret(sandbox: Client) -> None:
    async with ClientSecretCredential(
        TENANT, APP, "any", transport=sandbox.transport()
    ) as credential:
        token = await credential.get_token(SCOPE)
        await credential.get_token(SCOPE)
    claims = _claims(token.token)
    assert (claims["appid"], claims["tid"]) == (APP, TENANT)
    assert (claims["oid"], claims["aud"]) == (
        tokens.object_id(TENANT, APP),
        "https://vault.azure.net",
    )
    assert time.time() + 3000 < token.expires_on <= claims["exp"] + 1
    (row,) = await sandbox.control("GET", "requests")
    assert row == {
        "service": "entra",
        "method": "POST",
        "path": f"/{TENANT}/oauth2/v2.0/token",
        "status": 200,
        "count": 1,
    }


class _SyncTransport(RequestsTransport):
    def __init__(self, base_url: str) -> None:
        super().__init__()
        self._base_url = base_url

    def send(self, request: Any, **config: Any) -> Any:  # type: ignore[override]
        request.url = f"{self._base_url}/_host/{request.url.removeprefix('https://')}"
        return super().send(request, **config)


async def test_token_comes_through_discovery_when_the_credential_is_sync(sandbox: Client) -> None:
    def ask() -> str:
        transport = _SyncTransport(sandbox.process.url)
        with SyncCredential(TENANT, APP, "any", transport=transport) as credential:
            return str(credential.get_token(SCOPE).token)

    assert _claims(await asyncio.to_thread(ask))["appid"] == APP


async def test_credential_reports_the_error_when_the_scope_is_wrong(sandbox: Client) -> None:
    async with ClientSecretCredential(
        TENANT, APP, "any", transport=sandbox.transport()
    ) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS1002012"):
            await credential.get_token("https://vault.azure.net/wrong")
