"""azure-mgmt-cognitiveservices, unchanged but for its transport, against the accounts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import models
from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

from tests.dev.sandbox.sdk_transport import AnyCredential
from tests.dev.sandbox.stage import GROUP, SUBSCRIPTION, Client, account_body, account_path

USER_IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)


@pytest.fixture
async def client(sandbox: Client) -> AsyncIterator[CognitiveServicesManagementClient]:
    async with CognitiveServicesManagementClient(
        AnyCredential(), SUBSCRIPTION, transport=sandbox.transport(), polling_interval=1
    ) as made:
        yield made


async def _create(client: CognitiveServicesManagementClient, name: str, **more: Any) -> Any:
    account = models.Account(
        kind="OpenAI",
        location="swedencentral",
        sku=models.Sku(name="S0"),
        properties=models.AccountProperties(custom_sub_domain_name=name),
        **more,
    )
    return await (await client.accounts.begin_create(GROUP, name, account)).result()


async def test_account_reads_back_typed_when_created(
    client: CognitiveServicesManagementClient,
) -> None:
    created = await _create(client, "alpha", tags={"team": "ml"})
    read = await client.accounts.get(GROUP, "alpha")
    assert created.id == read.id == account_path("alpha")
    assert (read.kind, read.location, read.tags) == ("OpenAI", "swedencentral", {"team": "ml"})
    assert read.properties.endpoint == "https://alpha.openai.azure.com/"
    assert read.properties.custom_sub_domain_name == "alpha"
    assert read.properties.provisioning_state == "Succeeded"
    assert read.additional_properties == {}


async def test_user_identities_are_lost_when_a_patch_names_only_the_system_one(
    client: CognitiveServicesManagementClient,
) -> None:
    both = models.Identity(
        type="SystemAssigned, UserAssigned",
        user_assigned_identities={USER_IDENTITY: models.UserAssignedIdentity()},
    )
    created = await _create(client, "alpha", identity=both)
    assert created.identity.principal_id
    assert created.identity.user_assigned_identities[USER_IDENTITY].client_id
    change = models.Account(identity=models.Identity(type="SystemAssigned"))
    patched = await (await client.accounts.begin_update(GROUP, "alpha", change)).result()
    assert patched.identity.user_assigned_identities is None
    assert patched.identity.principal_id == created.identity.principal_id


async def test_update_polls_to_the_new_account_when_writes_are_slow(
    sandbox: Client, client: CognitiveServicesManagementClient
) -> None:
    await _create(client, "alpha")
    await sandbox.settings(lro_seconds=0.6)
    change = models.Account(identity=models.Identity(type="SystemAssigned"))
    poller = await client.accounts.begin_update(GROUP, "alpha", change)
    meanwhile = await client.accounts.get(GROUP, "alpha")
    assert meanwhile.properties.provisioning_state == "Accepted"
    assert meanwhile.identity.principal_id is None
    with pytest.raises(HttpResponseError) as refused:
        await client.accounts.begin_update(GROUP, "alpha", models.Account(tags={"a": "b"}))
    assert refused.value.status_code == 409
    assert refused.value.error is not None
    assert refused.value.error.code == "AccountProvisioningStateInvalid"
    done = await poller.result()
    assert done.identity.principal_id
    assert done.properties.provisioning_state == "Succeeded"


async def test_account_is_gone_when_a_slow_delete_is_done(
    sandbox: Client, client: CognitiveServicesManagementClient
) -> None:
    await _create(client, "alpha")
    await sandbox.settings(lro_seconds=0.3)
    poller = await client.accounts.begin_delete(GROUP, "alpha")
    assert (await client.accounts.get(GROUP, "alpha")).properties.provisioning_state == "Deleting"
    await poller.result()
    with pytest.raises(ResourceNotFoundError) as missing:
        await client.accounts.get(GROUP, "alpha")
    assert missing.value.error is not None
    assert missing.value.error.code == "ResourceNotFound"


async def test_all_accounts_are_listed_once_when_there_are_several_pages(
    sandbox: Client, client: CognitiveServicesManagementClient
) -> None:
    names = [f"acc-{number}" for number in range(7)]
    for name in names:
        await sandbox.call("PUT", account_path(name), account_body(name))
    await sandbox.call("PUT", account_path("else", group="rg-two"), account_body("else"))
    other = "bbbbbbbb-0000-4000-8000-000000000002"
    await sandbox.call("PUT", account_path("foreign", other), account_body("foreign"))
    await sandbox.settings(page_size=3)
    await sandbox.control("DELETE", "requests")
    assert [account.name async for account in client.accounts.list()] == [*names, "else"]
    assert sum(row["count"] for row in await sandbox.control("GET", "requests")) == 3
    in_group = client.accounts.list_by_resource_group(GROUP)
    assert [account.name async for account in in_group] == names


async def test_keys_are_refused_when_local_auth_is_off(
    client: CognitiveServicesManagementClient,
) -> None:
    await _create(client, "alpha")
    keys = await client.accounts.list_keys(GROUP, "alpha")
    assert keys.key1
    assert keys.key1 != keys.key2
    change = models.Account(properties=models.AccountProperties(disable_local_auth=True))
    await (await client.accounts.begin_update(GROUP, "alpha", change)).result()
    with pytest.raises(HttpResponseError):
        await client.accounts.list_keys(GROUP, "alpha")
