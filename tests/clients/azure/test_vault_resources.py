"""Vaults in ARM over real HTTP: found by address, in any subscription, with their facts."""

import asyncio

import pytest

from finetune_wandb.clients.azure.vaults import VaultResources
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.vault import AccessPolicy
from finetune_wandb.model.errors import MissingError
from tests.clients.azure_stage import (
    TENANT,
    VAULT,
    forget_requests,
    make_vault,
    requests,
)
from tests.dev.sandbox.stage import SUBSCRIPTION, Client, vault_path

pytestmark = pytest.mark.sandbox_only
SOMEBODY = "55555555-5555-4555-8555-555555555555"
OTHER = "66666666-6666-4666-8666-666666666666"


@pytest.fixture
async def vaults(transport: Transport) -> VaultResources:
    return VaultResources(transport, (SUBSCRIPTION,))


async def test_facts_are_read(sandbox: Client, vaults: VaultResources) -> None:
    path = await make_vault(sandbox)
    found = await vaults.find(VAULT)
    assert (found.id, found.address, found.tenant_id) == (path, VAULT, TENANT)
    assert found.rbac
    assert found.public_access
    assert not found.firewall


async def test_place_is_remembered_and_facts_are_not(
    sandbox: Client, vaults: VaultResources
) -> None:
    await make_vault(sandbox)
    await vaults.find(VAULT)
    await make_vault(sandbox, enableRbacAuthorization=False)
    await forget_requests(sandbox)
    assert not (await vaults.find(VAULT)).rbac
    assert [(method, part) for method, part, _ in await requests(sandbox)] == [("GET", "kv-main")]


@pytest.mark.parametrize(
    ("properties", "public", "firewall", "trusted"),
    [
        ({"publicNetworkAccess": "Disabled"}, False, False, True),
        ({"networkAcls": {"defaultAction": "Deny", "bypass": "None"}}, True, True, False),
        ({"networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices"}}, True, True, True),
    ],
)
async def test_network_is_read(
    sandbox: Client,
    vaults: VaultResources,
    properties: dict[str, object],
    public: bool,
    firewall: bool,
    trusted: bool,
) -> None:
    await make_vault(sandbox, **properties)
    found = await vaults.find(VAULT)
    assert (found.public_access, found.firewall, found.trusted_services) == (
        public,
        firewall,
        trusted,
    )


async def test_vault_is_found_when_it_is_beyond_the_first_page(
    sandbox: Client, vaults: VaultResources
) -> None:
    await sandbox.settings(page_size=2)
    for number in range(5):
        await make_vault(sandbox, f"kv-a{number}")
    await make_vault(sandbox)
    assert (await vaults.find(VAULT)).address == VAULT


async def test_missing_is_raised_when_no_subscription_has_it(vaults: VaultResources) -> None:
    with pytest.raises(MissingError) as caught:
        await vaults.find(VAULT)
    assert caught.value.code == ""


async def test_soft_deletion_is_told_when_the_vault_can_be_recovered(
    sandbox: Client, vaults: VaultResources
) -> None:
    await make_vault(sandbox)
    await vaults.find(VAULT)
    status, _, _ = await sandbox.call("DELETE", f"{vault_path('kv-main')}?api-version=2026-05-15")
    assert status in (200, 204)
    with pytest.raises(MissingError) as caught:
        await vaults.find(VAULT)
    assert caught.value.code == "SoftDeleted"


async def test_policy_is_added_and_others_stay(sandbox: Client, vaults: VaultResources) -> None:
    theirs = {
        "tenantId": TENANT,
        "objectId": OTHER,
        "permissions": {"secrets": ["Get", "Set"]},
    }
    mine = {"tenantId": TENANT, "objectId": SOMEBODY, "permissions": {"secrets": ["backup"]}}
    await make_vault(sandbox, enableRbacAuthorization=False, accessPolicies=[theirs, mine])
    await vaults.add_policy(await vaults.find(VAULT), SOMEBODY)
    found = await vaults.find(VAULT)
    assert found.policy_of(OTHER) == AccessPolicy(OTHER, frozenset({"get", "set"}))
    assert found.policy_of(SOMEBODY) == AccessPolicy(SOMEBODY, frozenset({"backup", "get", "list"}))


async def test_two_reads_at_once_both_say_so_when_the_vault_is_gone(
    sandbox: Client, vaults: VaultResources
) -> None:
    await make_vault(sandbox)
    await vaults.find(VAULT)
    await sandbox.call("DELETE", f"{vault_path('kv-main')}?api-version=2026-05-15")
    found = await asyncio.gather(*(vaults.find(VAULT) for _ in range(2)), return_exceptions=True)
    assert [getattr(error, "code", error) for error in found] == ["SoftDeleted"] * 2
