"""Roles, assignment names and access policies as plain facts."""

from finetune_wandb.model.accounts.vault import (
    ADMINISTRATOR,
    ROLE_IDS,
    AccessPolicy,
    assignment_name,
    strength,
    with_policy,
)
from finetune_wandb.model.settings import OFFICER, USER
from tests.fakes import OLD_PRINCIPAL, PRINCIPAL, VAULT, VAULT_ID, world


def test_roles_are_ordered_by_what_they_allow() -> None:
    assert strength(ADMINISTRATOR) > strength(OFFICER) > strength(USER) > strength("Reader")


def test_assignment_has_the_same_name_when_the_same_is_given_again() -> None:
    name = assignment_name(VAULT_ID, PRINCIPAL, ROLE_IDS[USER])
    assert name == assignment_name(VAULT_ID.upper(), PRINCIPAL.upper(), ROLE_IDS[USER])
    others = {
        assignment_name(VAULT_ID + "2", PRINCIPAL, ROLE_IDS[USER]),
        assignment_name(VAULT_ID, OLD_PRINCIPAL, ROLE_IDS[USER]),
        assignment_name(VAULT_ID, PRINCIPAL, ROLE_IDS[OFFICER]),
    }
    assert name not in others
    assert len(others) == 3


def test_policy_keeps_what_was_held_when_more_is_added() -> None:
    vault = world().vaults[VAULT.host]
    once = with_policy(vault, PRINCIPAL)
    assert with_policy(once, PRINCIPAL).policies == once.policies
    held = AccessPolicy(OLD_PRINCIPAL, frozenset({"backup"}))
    both = with_policy(with_policy(vault, PRINCIPAL), OLD_PRINCIPAL)
    assert {item.object_id for item in both.policies} == {PRINCIPAL, OLD_PRINCIPAL}
    grown = with_policy(type(vault)(vault.id, VAULT, "", False, (held,)), OLD_PRINCIPAL)
    assert grown.policies == (AccessPolicy(OLD_PRINCIPAL, frozenset({"backup", "get", "list"})),)


def test_scope_is_the_vault_or_one_secret() -> None:
    vault = world().vaults[VAULT.host]
    assert vault.scope() == VAULT_ID
    assert vault.scope("key") == f"{VAULT_ID}/secrets/key"
