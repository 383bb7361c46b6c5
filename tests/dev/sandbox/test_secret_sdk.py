"""azure-keyvault-secrets against the data plane: versions, times, states, and refusals."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.identity.aio import ClientSecretCredential
from azure.keyvault.secrets.aio import SecretClient

from dev.sandbox import tokens
from tests.dev.sandbox.sdk_transport import AnyCredential
from tests.dev.sandbox.stage import Client, vault_path

URL = "https://Team-Vault.vault.azure.net"
TENANT = tokens.DEFAULT_TENANT
APP = "20000000-0000-4000-8000-000000000002"


@pytest.fixture
async def secrets(sandbox: Client) -> AsyncIterator[SecretClient]:
    await sandbox.call("PUT", vault_path("team-vault"), {"location": "swedencentral"})
    async with SecretClient(
        URL, AnyCredential(), transport=sandbox.transport(), retry_total=0
    ) as made:
        yield made


async def test_older_version_stays_readable_when_a_newer_one_is_set(secrets: SecretClient) -> None:
    first = await secrets.set_secret("wandb-key", "one")
    end = datetime(2030, 1, 2, tzinfo=UTC)
    second = await secrets.set_secret(
        "wandb-key", "two", expires_on=end, content_type="text/plain", tags={"a": "b"}
    )
    latest = await secrets.get_secret("wandb-key")
    assert (latest.value, latest.properties.version) == ("two", second.properties.version)
    assert latest.properties.expires_on == end
    assert (latest.properties.content_type, latest.properties.tags) == ("text/plain", {"a": "b"})
    assert (await secrets.get_secret("wandb-key", first.properties.version)).value == "one"
    assert (
        latest.id
        == f"https://team-vault.vault.azure.net/secrets/wandb-key/{second.properties.version}"
    )


async def test_versions_and_secrets_are_listed_once_when_there_are_several_pages(
    sandbox: Client, secrets: SecretClient
) -> None:
    made = {(await secrets.set_secret("key", str(n))).properties.version for n in range(5)}
    for number in range(4):
        await secrets.set_secret(f"other-{number}", "v")
    await sandbox.settings(secret_page_size=2)
    versions = [item.version async for item in secrets.list_properties_of_secret_versions("key")]
    assert (len(versions), set(versions)) == (5, made)
    names = [item.name async for item in secrets.list_properties_of_secrets()]
    assert names == ["key", "other-0", "other-1", "other-2", "other-3"]
    missing = secrets.list_properties_of_secret_versions("none")
    assert [item async for item in missing] == []


async def test_disabled_version_is_refused_but_others_are_read(secrets: SecretClient) -> None:
    first = await secrets.set_secret("key", "one")
    await secrets.set_secret("key", "two")
    await secrets.update_secret_properties("key", enabled=False)
    with pytest.raises(HttpResponseError) as refused:
        await secrets.get_secret("key")
    assert (refused.value.status_code, _inner(refused.value)) == (403, "SecretDisabled")
    assert (await secrets.get_secret("key", first.properties.version)).value == "one"


async def test_value_is_read_when_it_is_expired_or_not_valid_yet(secrets: SecretClient) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await secrets.set_secret("old", "v", expires_on=now - timedelta(days=1))
    await secrets.set_secret("new", "v", not_before=now + timedelta(days=1))
    assert (await secrets.get_secret("old")).properties.expires_on == now - timedelta(days=1)
    assert (await secrets.get_secret("new")).properties.not_before == now + timedelta(days=1)


async def test_secret_is_not_found_when_it_or_its_version_is_not_there(
    secrets: SecretClient,
) -> None:
    await secrets.set_secret("key", "v")
    for name, version in (("none", None), ("key", "0" * 32)):
        with pytest.raises(ResourceNotFoundError) as missing:
            await secrets.get_secret(name, version)
        assert missing.value.error is not None
        assert missing.value.error.code == "SecretNotFound"


async def test_name_is_blocked_until_recovered_when_a_secret_was_deleted(
    secrets: SecretClient,
) -> None:
    await secrets.set_secret("key", "v")
    await secrets.delete_secret("key")
    with pytest.raises(ResourceNotFoundError):
        await secrets.get_secret("key")
    with pytest.raises(ResourceExistsError) as blocked:
        await secrets.set_secret("key", "w")
    assert _inner(blocked.value) == "ObjectIsDeletedButRecoverable"
    await secrets.recover_deleted_secret("key")
    assert (await secrets.get_secret("key")).value == "v"


async def test_connection_drops_when_no_vault_has_the_name(sandbox: Client) -> None:
    async with SecretClient(
        "https://nobody.vault.azure.net",
        AnyCredential(),
        transport=sandbox.transport(),
        retry_total=0,
    ) as client:
        with pytest.raises(ServiceRequestError):
            await client.get_secret("key")
    (row,) = await sandbox.control("GET", "requests")
    assert (row["service"], row["status"], row["path"]) == ("vault", 0, "/secrets/key/")


@pytest.mark.parametrize(
    ("network", "inner"),
    [
        ({"publicNetworkAccess": "Disabled"}, "ForbiddenByConnection"),
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": []}}, "ForbiddenByFirewall"),
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "127.0.0.0/8"}]}}, None),
    ],
    ids=["private", "firewall", "allowed-address"],
)
async def test_network_decides_when_the_vault_restricts_it(
    sandbox: Client, secrets: SecretClient, network: dict[str, Any], inner: str | None
) -> None:
    await secrets.set_secret("key", "v")
    await sandbox.call("PATCH", vault_path("team-vault"), {"properties": network})
    if inner is None:
        assert (await secrets.get_secret("key")).value == "v"
        return
    with pytest.raises(HttpResponseError) as refused:
        await secrets.get_secret("key")
    assert (refused.value.status_code, _inner(refused.value)) == (403, inner)


@pytest.mark.parametrize(
    "code", ["ForbiddenByRbac", "AccessDenied", "ForbiddenByFirewall", "ForbiddenByConnection"]
)
async def test_every_call_is_refused_when_the_access_switch_says_so(
    sandbox: Client, secrets: SecretClient, code: str
) -> None:
    await secrets.set_secret("key", "v")
    await sandbox.control("PUT", "vaults/TEAM-vault/access", {"deny": code})
    with pytest.raises(HttpResponseError) as refused:
        await secrets.get_secret("key")
    assert _inner(refused.value) == code
    await sandbox.control("PUT", "vaults/team-vault/access", {"deny": None})
    assert (await secrets.get_secret("key")).value == "v"


async def test_role_or_policy_opens_the_secret_when_access_is_enforced(
    sandbox: Client, secrets: SecretClient
) -> None:
    await secrets.set_secret("key", "v")
    await sandbox.settings(enforce_vault_access=True)
    principal = tokens.object_id(TENANT, APP)
    async with (
        ClientSecretCredential(TENANT, APP, "any", transport=sandbox.transport()) as credential,
        SecretClient(URL, credential, transport=sandbox.transport(), retry_total=0) as app,
    ):
        assert await _refusal(app) == "ForbiddenByRbac"
        scope = vault_path("team-vault") + "/secrets/key"
        role = "4633458b-17de-408a-b874-0445c86b69e6"
        properties = {"roleDefinitionId": f"/x/{role}", "principalId": principal}
        name = "30000000-0000-4000-8000-000000000003"
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
        assert (await sandbox.call("PUT", path, {"properties": properties}))[0] == 201
        assert (await app.get_secret("key")).value == "v"
        with pytest.raises(HttpResponseError):
            await app.set_secret("key", "w")
        await sandbox.settings(rbac_propagation_s=60)
        assert await _refusal(app) == "ForbiddenByRbac"
        change: dict[str, Any] = {"properties": {"enableRbacAuthorization": False}}
        await sandbox.call("PATCH", vault_path("team-vault"), change)
        assert await _refusal(app) == "AccessDenied"
        entry = {"tenantId": TENANT, "objectId": principal, "permissions": {"secrets": ["Get"]}}
        change = {"properties": {"accessPolicies": [entry]}}
        await sandbox.call("PUT", vault_path("team-vault") + "/accessPolicies/add", change)
        assert (await app.get_secret("key")).value == "v"


async def _refusal(client: SecretClient) -> str | None:
    with pytest.raises(HttpResponseError) as refused:
        await client.get_secret("key")
    assert refused.value.status_code == 403
    return _inner(refused.value)


def _inner(error: HttpResponseError) -> str | None:
    """Return the inner code, from the body: the SDK's own model drops it."""
    assert error.response is not None
    body = error.response.json()  # type: ignore[attr-defined]
    code: str | None = body["error"].get("innererror", {}).get("code")
    return code
