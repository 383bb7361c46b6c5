"""Role assignments over real HTTP: given once, found again, told apart when not ready."""

from datetime import UTC, datetime, timedelta

import pytest

from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.azure.vaults import Roles
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.vault import ROLE_IDS
from finetune_wandb.model.errors import MissingError, NotReadyError
from finetune_wandb.model.settings import OFFICER, USER
from tests.clients.azure_stage import (
    ALPHA,
    forget_requests,
    make_account,
    make_vault,
    requests,
)
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
async def roles(transport: Transport) -> Roles:
    return Roles(transport)


@pytest.fixture
async def principal(sandbox: Client, transport: Transport) -> str:
    await make_account(sandbox, identity={"type": "SystemAssigned"})
    accounts = Accounts(transport)
    found = await accounts.read(ALPHA)
    return found.principal_id


async def test_assignment_is_found_again_when_given(
    sandbox: Client, roles: Roles, principal: str
) -> None:
    scope = await make_vault(sandbox)
    made = await roles.assign(scope, ROLE_IDS[OFFICER], principal, "for alpha")
    assert (made.role, made.principal_id, made.scope) == (OFFICER, principal, scope.lower())
    assert made in await roles.list_for_scope(scope)
    assert made in await roles.list_for_scope(f"{scope}/secrets/wandb-api-key")
    assert made.description == "for alpha"


async def test_nothing_is_doubled_when_given_again(
    sandbox: Client, roles: Roles, principal: str
) -> None:
    scope = await make_vault(sandbox)
    first = await roles.assign(scope, ROLE_IDS[OFFICER], principal, "x")
    await forget_requests(sandbox)
    assert (await roles.assign(scope, ROLE_IDS[OFFICER], principal, "x")).id == first.id
    assert [status for _, _, status in await requests(sandbox)] == [200]
    assert len(await roles.list_for_scope(scope)) == 1


async def test_assignment_is_gone_when_removed_and_removing_again_is_no_error(
    sandbox: Client, roles: Roles, principal: str
) -> None:
    scope = await make_vault(sandbox)
    before = datetime.now(UTC) - timedelta(seconds=2)
    made = await roles.assign(scope, ROLE_IDS[OFFICER], principal, "x")
    assert made.is_ours
    assert made.made_at is not None
    assert made.made_at >= before
    for _ in range(2):
        await roles.remove(made.id)
    assert await roles.list_for_scope(scope) == ()


async def test_success_is_returned_when_somebody_gave_the_role_by_another_name(
    sandbox: Client, roles: Roles, principal: str
) -> None:
    scope = await make_vault(sandbox)
    name = "11111111-2222-4333-8444-555555555555"
    path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
    definition = f"/providers/Microsoft.Authorization/roleDefinitions/{ROLE_IDS[USER]}"
    body = {
        "properties": {
            "roleDefinitionId": definition,
            "principalId": principal,
            "principalType": "ServicePrincipal",
        }
    }
    status, _, _ = await sandbox.call("PUT", f"{path}?api-version=2022-04-01", body)
    assert status == 201
    made = await roles.assign(scope, ROLE_IDS[USER], principal, "x")
    assert made.role == USER
    assert made.is_fresh(datetime.now(UTC)), "nothing says that it is in effect"
    assert len(await roles.list_for_scope(scope)) == 1


async def test_not_ready_is_raised_when_the_directory_does_not_know_the_principal(
    sandbox: Client, roles: Roles, transport: Transport
) -> None:
    scope = await make_vault(sandbox)
    await sandbox.settings(principal_replication_s=60)
    await make_account(sandbox, identity={"type": "SystemAssigned"})
    accounts = Accounts(transport)
    unknown = (await accounts.read(ALPHA)).principal_id
    with pytest.raises(NotReadyError) as caught:
        await roles.assign(scope, ROLE_IDS[USER], unknown, "x")
    assert caught.value.code == "PrincipalNotFound"


async def test_missing_is_raised_when_the_vault_is_gone(
    sandbox: Client, roles: Roles, principal: str
) -> None:
    scope = await make_vault(sandbox)
    with pytest.raises(MissingError):
        await roles.assign(f"{scope}-gone", ROLE_IDS[USER], principal, "x")
