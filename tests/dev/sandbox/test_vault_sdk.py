"""azure-mgmt-keyvault and azure-mgmt-authorization against vaults and role assignments."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.authorization.aio import AuthorizationManagementClient
from azure.mgmt.authorization.models import RoleAssignmentCreateParameters
from azure.mgmt.keyvault import models
from azure.mgmt.keyvault.aio import KeyVaultManagementClient

from tests.dev.sandbox.sdk_transport import AnyCredential
from tests.dev.sandbox.stage import (
    GROUP,
    SUBSCRIPTION,
    Client,
    account_body,
    account_path,
    vault_path,
)

TENANT = "10000000-0000-4000-8000-000000000001"
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
USER = "4633458b-17de-408a-b874-0445c86b69e6"


@pytest.fixture
async def vaults(sandbox: Client) -> AsyncIterator[KeyVaultManagementClient]:
    async with KeyVaultManagementClient(
        AnyCredential(), SUBSCRIPTION, transport=sandbox.transport(), polling_interval=1
    ) as made:
        yield made


@pytest.fixture
async def authorization(sandbox: Client) -> AsyncIterator[AuthorizationManagementClient]:
    async with AuthorizationManagementClient(
        AnyCredential(), SUBSCRIPTION, transport=sandbox.transport()
    ) as made:
        yield made


async def _create(vaults: KeyVaultManagementClient, name: str, **properties: Any) -> models.Vault:
    parameters = models.VaultCreateOrUpdateParameters(
        location="swedencentral",
        properties=models.VaultProperties(
            tenant_id=TENANT, sku=models.Sku(family="A", name="standard"), **properties
        ),
    )
    return await (await vaults.vaults.begin_create_or_update(GROUP, name, parameters)).result()


def _policy(object_id: str, *secrets: str) -> models.AccessPolicyEntry:
    permissions = models.Permissions(secrets=list(secrets))
    return models.AccessPolicyEntry(tenant_id=TENANT, object_id=object_id, permissions=permissions)


def _policies(*entries: models.AccessPolicyEntry) -> models.VaultAccessPolicyParameters:
    properties = models.VaultAccessPolicyProperties(access_policies=list(entries))
    return models.VaultAccessPolicyParameters(properties=properties)


async def test_new_vault_is_rbac_when_the_api_version_is_recent(
    vaults: KeyVaultManagementClient,
) -> None:
    created = await _create(vaults, "team-vault")
    read = await vaults.vaults.get(GROUP, "team-vault")
    assert created.id == read.id == vault_path("team-vault")
    assert read.properties.enable_rbac_authorization is True
    assert read.properties.vault_uri == "https://team-vault.vault.azure.net/"
    assert [vault.name async for vault in vaults.vaults.list_by_subscription()] == ["team-vault"]
    assert [vault.name async for vault in vaults.vaults.list()] == ["team-vault"]


async def test_vault_uses_policies_when_rbac_is_null_or_the_api_version_is_old(
    sandbox: Client, vaults: KeyVaultManagementClient
) -> None:
    body = {"location": "swedencentral", "properties": {"enableRbacAuthorization": None}}
    await sandbox.call("PUT", vault_path("null-vault"), body)
    body = {"location": "swedencentral", "properties": {}}
    await sandbox.call("PUT", vault_path("old-vault") + "?api-version=2024-11-01", body)
    null, old = [vault async for vault in vaults.vaults.list_by_resource_group(GROUP)]
    assert null.properties.enable_rbac_authorization is None
    assert old.properties.enable_rbac_authorization is False


async def test_policies_are_merged_replaced_and_removed_when_updated(
    vaults: KeyVaultManagementClient,
) -> None:
    await _create(vaults, "team-vault", enable_rbac_authorization=False)
    one, two = str(uuid4()), str(uuid4())
    update = vaults.vaults.update_access_policy
    await update(GROUP, "team-vault", "add", _policies(_policy(one, "get"), _policy(two, "get")))
    added = await update(GROUP, "team-vault", "add", _policies(_policy(one, "Get", "list")))
    assert added.properties.access_policies[0].permissions.secrets == ["get", "list"]
    await update(GROUP, "team-vault", "replace", _policies(_policy(two, "set")))
    await update(GROUP, "team-vault", "remove", _policies(_policy(one, "GET", "list")))
    vault = await vaults.vaults.get(GROUP, "team-vault")
    (left,) = vault.properties.access_policies
    assert (left.object_id, left.permissions.secrets) == (two, ["set"])


async def test_vault_is_recovered_without_its_roles_when_it_was_soft_deleted(
    sandbox: Client,
    vaults: KeyVaultManagementClient,
    authorization: AuthorizationManagementClient,
) -> None:
    await _create(vaults, "team-vault")
    await sandbox.control("PUT", "vaults/team-vault/secrets/key", {"value": "v"})
    await authorization.role_assignments.create(
        vault_path("team-vault"), str(uuid4()), _parameters(str(uuid4()))
    )
    await vaults.vaults.delete(GROUP, "team-vault")
    with pytest.raises(ResourceNotFoundError):
        await vaults.vaults.get(GROUP, "team-vault")
    deleted = await vaults.vaults.get_deleted("team-vault", "swedencentral")
    assert deleted.properties.vault_id == vault_path("team-vault")
    with pytest.raises(ResourceExistsError, match="deleted state"):
        await _create(vaults, "team-vault")
    await _create(vaults, "team-vault", create_mode="recover")
    assigned = authorization.role_assignments.list_for_scope(vault_path("team-vault"))
    assert [item async for item in assigned] == []
    hosted = "/_host/team-vault.vault.azure.net/secrets/key?api-version=7.4"
    assert (await sandbox.call("GET", hosted))[0] == 200


def _parameters(principal: str, role: str = OFFICER) -> RoleAssignmentCreateParameters:
    return RoleAssignmentCreateParameters(
        role_definition_id=(
            f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization"
            f"/roleDefinitions/{role}"
        ),
        principal_id=principal,
        principal_type="ServicePrincipal",
    )


async def test_assignment_conflicts_when_the_triple_or_the_name_is_taken(
    vaults: KeyVaultManagementClient, authorization: AuthorizationManagementClient
) -> None:
    await _create(vaults, "team-vault")
    scope, name, principal = vault_path("team-vault"), str(uuid4()), str(uuid4())
    create = authorization.role_assignments.create
    created = await create(scope, name, _parameters(principal))
    again = await create(scope, name, _parameters(principal))
    assert created.id == again.id == f"{scope}/providers/{created.type}/{name}"
    with pytest.raises(ResourceExistsError) as exists:
        await create(scope, str(uuid4()), _parameters(principal))
    assert exists.value.error.code == "RoleAssignmentExists"
    with pytest.raises(HttpResponseError) as update:
        await create(scope, name, _parameters(principal, USER))
    assert update.value.error.code == "RoleAssignmentUpdateNotPermitted"
    await authorization.role_assignments.delete(scope, name)
    await authorization.role_assignments.delete(scope, name)
    with pytest.raises(ResourceNotFoundError):
        await authorization.role_assignments.get(scope, name)


async def test_listing_covers_scopes_above_and_below_when_asked(
    vaults: KeyVaultManagementClient, authorization: AuthorizationManagementClient
) -> None:
    await _create(vaults, "team-vault")
    await _create(vaults, "other-vault")
    vault, principal = vault_path("team-vault"), str(uuid4())
    scopes = {
        "subscription": f"/subscriptions/{SUBSCRIPTION}",
        "group": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}",
        "vault": vault,
        "secret": f"{vault}/secrets/key",
        "other": vault_path("other-vault"),
    }
    for scope in scopes.values():
        parameters = _parameters(principal)
        await authorization.role_assignments.create(scope, str(uuid4()), parameters)
    await authorization.role_assignments.create(vault, str(uuid4()), _parameters(str(uuid4())))

    async def listed(scope: str, text: str | None) -> list[str]:
        found = authorization.role_assignments.list_for_scope(scope, filter=text)
        names = {value.lower(): name for name, value in scopes.items()}
        return sorted([names[item.scope.lower()] async for item in found])

    whole = ["group", "secret", "subscription", "vault"]
    assert await listed(vault, f"principalId eq '{principal}'") == whole
    assert await listed(vault, f"assignedTo('{principal}')") == whole
    above = ["group", "subscription", "vault"]
    assert await listed(vault, f"atScope() and assignedTo('{principal}')") == above
    assert await listed(vault, "atScope()") == [*above, "vault"]
    assert await listed(vault, None) == [*whole, "vault"]
    every = await listed(scopes["subscription"], f"principalId eq '{principal}'")
    assert every == ["group", "other", "secret", "subscription", "vault"]
    with pytest.raises(HttpResponseError):
        await listed(vault, "scope eq 'x'")


async def test_principal_is_not_found_when_it_is_not_replicated_yet(
    sandbox: Client,
    vaults: KeyVaultManagementClient,
    authorization: AuthorizationManagementClient,
) -> None:
    await _create(vaults, "team-vault")
    await sandbox.settings(principal_replication_s=0.4)
    body = account_body("alpha", identity={"type": "SystemAssigned"})
    _, account, _ = await sandbox.call("PUT", account_path("alpha"), body)
    principal = account["identity"]["principalId"]
    scope, name = vault_path("team-vault"), str(uuid4())
    with pytest.raises(HttpResponseError) as early:
        await authorization.role_assignments.create(scope, name, _parameters(principal))
    assert (early.value.status_code, early.value.error.code) == (400, "PrincipalNotFound")
    await sandbox.settings(principal_replication_s=0)
    await authorization.role_assignments.create(scope, name, _parameters(principal))


@pytest.mark.parametrize(
    ("scope", "name", "role", "code"),
    [
        (vault_path("none"), None, OFFICER, "ResourceNotFound"),
        (vault_path("none") + "/secrets/key", None, OFFICER, "ResourceNotFound"),
        (account_path("none"), None, OFFICER, "ResourceNotFound"),
        (f"/subscriptions/{SUBSCRIPTION}", "no-guid", OFFICER, "InvalidRoleAssignmentId"),
        (f"/subscriptions/{SUBSCRIPTION}", None, str(uuid4()), "RoleDefinitionDoesNotExist"),
    ],
    ids=["vault", "secret", "account", "name", "role"],
)
async def test_assignment_is_refused_when_a_part_of_it_does_not_exist(
    authorization: AuthorizationManagementClient,
    scope: str,
    name: str | None,
    role: str,
    code: str,
) -> None:
    with pytest.raises(HttpResponseError) as refused:
        await authorization.role_assignments.create(
            scope, name or str(uuid4()), _parameters(str(uuid4()), role)
        )
    assert refused.value.error.code == code


async def test_role_definition_is_found_when_asked_by_name_or_id(
    authorization: AuthorizationManagementClient,
) -> None:
    scope = vault_path("team-vault")
    found = authorization.role_definitions.list(
        scope, filter="roleName eq 'Key Vault Secrets User'"
    )
    (definition,) = [item async for item in found]
    assert definition.name == USER
    read = await authorization.role_definitions.get(scope, OFFICER)
    assert read.role_name == "Key Vault Secrets Officer"
    assert read.permissions[0].data_actions == ["Microsoft.KeyVault/vaults/secrets/*"]
