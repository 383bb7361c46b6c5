"""What is stored of an account's access is compared with the vault's rights, without reading it."""

from dataclasses import replace

import pytest

from finetune_wandb.accounts.checks.vault import access_differs
from finetune_wandb.model.accounts.vault import (
    ADMINISTRATOR,
    ROLE_IDS,
    AccessPolicy,
    RoleAssignment,
)
from finetune_wandb.model.settings import OFFICER
from tests.accounts.stage import run_pass
from tests.fakes import NOW, PRINCIPAL, VAULT, VAULT_ID, World, settings, world


async def differs(azure: World, before: World) -> bool:
    entry = await run_pass(before)
    vault = azure.vaults[VAULT.host]
    assignments = tuple(azure.assignments) if vault.rbac else None
    return access_differs(entry, vault, assignments, settings(), NOW)


def policy_world() -> World:
    azure = world()
    azure.vaults[VAULT.host] = replace(azure.vaults[VAULT.host], rbac=False)
    return azure


async def test_nothing_differs_when_the_rights_are_as_the_pass_left_them() -> None:
    for azure in (world(), policy_world()):
        assert not await differs(azure, azure)


async def test_it_differs_when_the_role_is_gone() -> None:
    azure = world()
    entry = await run_pass(azure)
    assert access_differs(entry, azure.vaults[VAULT.host], (), settings(), NOW)


async def test_it_differs_when_there_is_more_than_was_asked_for() -> None:
    azure = world()
    entry = await run_pass(azure)
    strong = RoleAssignment("x", VAULT_ID.lower(), ROLE_IDS[ADMINISTRATOR], PRINCIPAL)
    assert access_differs(
        entry, azure.vaults[VAULT.host], (*azure.assignments, strong), settings(), NOW
    )


async def test_nothing_differs_when_the_change_was_somebody_elses() -> None:
    azure = world()
    entry = await run_pass(azure)
    other = RoleAssignment("y", VAULT_ID.lower(), ROLE_IDS[OFFICER], "somebody")
    assert not access_differs(
        entry, azure.vaults[VAULT.host], (*azure.assignments, other), settings(), NOW
    )


@pytest.mark.parametrize(
    "policies",
    [(), (AccessPolicy(PRINCIPAL, frozenset({"get"})),)],
    ids=["no policy", "without list"],
)
async def test_it_differs_when_the_policy_is_less(policies: tuple[AccessPolicy, ...]) -> None:
    azure = policy_world()
    entry = await run_pass(azure)
    vault = replace(azure.vaults[VAULT.host], policies=policies)
    assert access_differs(entry, vault, None, settings(), NOW)


async def test_it_differs_when_the_vault_changed_its_permission_model() -> None:
    azure = world()
    entry = await run_pass(azure)
    vault = replace(azure.vaults[VAULT.host], rbac=False)
    assert access_differs(entry, vault, None, settings(), NOW)
