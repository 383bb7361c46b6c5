"""A table of situations: what is found, whether the account counts as healthy, what is written."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from finetune_wandb.accounts.checks.vault import description_for
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.accounts.vault import (
    ADMINISTRATOR,
    ROLE_IDS,
    AccessPolicy,
    RoleAssignment,
)
from finetune_wandb.model.errors import (
    DeniedError,
    MissingError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.settings import OFFICER, USER
from tests.accounts.stage import causes, run_pass
from tests.fakes import (
    NOW,
    OLD_PRINCIPAL,
    PLACE,
    PRINCIPAL,
    REVOKED,
    STRANGER,
    TENANT,
    VAULT,
    VAULT_ID,
    World,
    account,
    account_id,
    settings,
    version,
    world,
)

READY = {
    "system_identity": True,
    "principal_id": PRINCIPAL,
    "tenant_id": TENANT,
    "tags": {"wandb-key-vault-url": VAULT.url, "wandb-secret-name": "wandb-api-key"},
}


def role(
    name: str, scope: str = VAULT_ID, principal: str = PRINCIPAL, text: str = ""
) -> RoleAssignment:
    return RoleAssignment(f"{scope}/ra/{name}", scope.lower(), ROLE_IDS[name], principal, text)


def ready(**more: object) -> World:
    """Return a world in which nothing is left to do, but for what `more` changes."""
    found = world(account(**(READY | more)))
    found.assignments = [role(OFFICER)]
    return found


def with_account(**more: object) -> Callable[[], World]:
    return lambda: ready(**more)


def with_tags(**tags: str) -> Callable[[], World]:
    named = {name.replace("_", "-"): value for name, value in tags.items()}
    return lambda: ready(tags=READY["tags"] | named)  # type: ignore[operator]


def with_vault(**more: object) -> Callable[[], World]:
    def make() -> World:
        found = ready()
        found.vaults[VAULT.host] = replace(found.vaults[VAULT.host], **more)  # type: ignore[arg-type]
        return found

    return make


def with_secret(**more: object) -> Callable[[], World]:
    def make() -> World:
        found = ready()
        found.secrets[PLACE] = [version("v1", **more)]
        return found

    return make


def with_error(call: str, error: Exception) -> Callable[[], World]:
    def make() -> World:
        found = ready()
        found.errors[call] = [error] * 9  # type: ignore[list-item]
        return found

    return make


def with_roles(*assignments: RoleAssignment) -> Callable[[], World]:
    def make() -> World:
        found = ready()
        found.assignments = list(assignments)
        return found

    return make


def in_use(make: Callable[[], World]) -> Callable[[], World]:
    """Let an older version be in use already."""

    def made() -> World:
        found = make()
        found.records[PLACE] = KeyRecord(
            secret=PLACE,
            version="v0",
            entity="team-a",
            entities=("team-a",),
            accepted_at=NOW - timedelta(days=9),
            expires_at=NOW + timedelta(days=60),
            newest_version="v0",
            newest_cause="key_accepted",
            etag="1",
        )
        found.secrets[PLACE].insert(0, version("v0"))
        return found

    return made


@dataclass(frozen=True)
class Situation:
    name: str
    world: Callable[[], World]
    blocked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    in_scope: bool = True
    retries: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    healthy: bool | None = None


def forbidden(code: str) -> DeniedError:
    return DeniedError("Key Vault answered 403", code=code)


SITUATIONS = [
    Situation("all well", ready),
    # eligible
    Situation("other kind", with_account(kind="SpeechServices"), warnings=("kind_not_supported",), in_scope=False),
    Situation("Foundry account", with_account(kind="AIServices")),
    Situation("kind in other case", with_account(kind="openai")),
    Situation("off", with_tags(wandb_integration="off"), in_scope=False),
    Situation("off in capitals", with_tags(wandb_integration="OFF "), in_scope=False),
    Situation("unknown mode", with_tags(wandb_integration="onn"), blocked=("mode_tag_unknown",), in_scope=False),
    Situation("not opted in", ready, settings={"ONBOARDING_SCOPE": "tagged"}, in_scope=False),
    Situation("opted in", with_tags(wandb_integration="on"), settings={"ONBOARDING_SCOPE": "tagged"}),
    Situation(
        "foreign subscription",
        ready,
        settings={"AZURE_SUBSCRIPTION_IDS": "99999999-9999-4999-8999-999999999999"},
        warnings=("subscription_not_configured",),
        in_scope=False,
    ),
    Situation(
        "being created, so that nothing may be sent",
        with_account(provisioning_state="Creating", system_identity=False, principal_id=""),
        blocked=("access_missing", "identity_off", "operation_under_way"),
        retries=True,
    ),
    Situation("failed", with_account(provisioning_state="Failed"), blocked=("provisioning_failed",)),
    Situation("no subdomain", with_account(custom_subdomain=""), blocked=("no_custom_subdomain",)),
    # identity
    Situation(
        "principal not made yet",
        with_account(principal_id=""),
        blocked=("access_missing", "identity_pending", "step_waiting"),
        retries=True,
    ),
    # vault
    Situation("vault of another tenant", with_vault(tenant_id=OLD_PRINCIPAL), blocked=("vault_other_tenant",)),
    Situation("private vault", with_vault(public_access=False), warnings=("vault_network_closed",)),
    Situation("firewall without bypass", with_vault(firewall=True, trusted_services=False), warnings=("vault_network_closed",)),
    Situation("firewall with bypass", with_vault(firewall=True)),
    Situation("vault tag is no vault", with_tags(wandb_key_vault_url="https://kv-main.vault.azure.net.evil.example"), blocked=("vault_url_malformed",)),
    Situation("vault tag with a user", with_tags(wandb_key_vault_url="https://a:b@kv-main.vault.azure.net"), blocked=("vault_url_malformed",)),
    Situation("vault not allowed", with_tags(wandb_key_vault_url="https://kv-evil.vault.azure.net"), blocked=("vault_not_allowed",)),
    Situation("same name in another cloud", with_tags(wandb_key_vault_url="https://kv-main.vault.azure.cn"), blocked=("vault_not_allowed",)),
    Situation("vault tag spelt otherwise", with_tags(wandb_key_vault_url="https://KV-Main.vault.azure.net/")),
    Situation("vault not listed", lambda: replace(ready(), vaults={}), blocked=("vault_missing",)),
    Situation("vault may not be listed", with_error("find vault", DeniedError("no", code="AuthorizationFailed")), blocked=("vault_denied",)),
    Situation("vault listing down", with_error("find vault", UnavailableError("no")), blocked=("vault_unavailable",), retries=True),
    Situation("vault listing refused", with_error("find vault", RejectedError("no", code="Odd")), blocked=("vault_refused",)),
    # secret
    Situation("secret missing", lambda: replace(ready(), secrets={}), blocked=("secret_missing",)),
    Situation("secret disabled", with_error("read secret", forbidden("SecretDisabled")), blocked=("secret_disabled",)),
    Situation("secret marked disabled", with_secret(enabled=False), blocked=("secret_disabled",)),
    Situation("secret not yet valid", with_secret(not_before=NOW + timedelta(hours=1)), blocked=("secret_not_yet_valid",)),
    Situation("secret expired", with_secret(expires=NOW), blocked=("secret_expired",)),
    Situation("secret without end", with_secret(expires=None), warnings=("secret_no_expiry",)),
    Situation("secret ends in 30 days", with_secret(expires=NOW + timedelta(days=30)), warnings=("secret_expires_soon",)),
    Situation("secret ends in 31 days", with_secret(expires=NOW + timedelta(days=31))),
    Situation("no role for the app", with_error("read secret", forbidden("ForbiddenByRbac")), blocked=("secret_forbidden_by_rbac",)),
    Situation("no policy for the app", with_error("read secret", forbidden("AccessDenied")), blocked=("secret_access_denied",)),
    Situation("vault firewall", with_error("read secret", forbidden("ForbiddenByFirewall")), blocked=("secret_forbidden_by_firewall",)),
    Situation("vault connection", with_error("read secret", forbidden("ForbiddenByConnection")), blocked=("secret_forbidden_by_connection",)),
    Situation("unknown refusal", with_error("read secret", forbidden("Whatever")), blocked=("secret_forbidden",)),
    Situation("vault throttles", with_error("read secret", ThrottledError("no", retry_after=77)), blocked=("secret_unavailable",), retries=True),
    Situation("secret not allowed", with_tags(wandb_secret_name="db-password"), blocked=("secret_not_allowed",)),
    Situation("secret tag is no name", with_tags(wandb_secret_name="a/b?c"), blocked=("secret_name_malformed",)),
    Situation("secret tag in other case", with_tags(wandb_secret_name="WANDB-API-KEY")),
    # key
    Situation("key rejected", with_secret(value=REVOKED), blocked=("key_rejected",)),
    Situation("key malformed", with_secret(value="not a key"), blocked=("key_malformed",)),
    Situation("key too short", with_secret(value="k" * 39), blocked=("key_malformed",)),
    Situation("key of another entity", with_secret(value=STRANGER), settings={"WANDB_ENTITY": "team-a"}, blocked=("key_wrong_entity",)),
    Situation("W&B down", with_error("prove key", UnavailableError("no")), blocked=("key_unknown",), retries=True),
    Situation("bad key, older one in use", in_use(with_secret(value=REVOKED)), warnings=("key_rejected",)),
    Situation("other entity, older one in use", in_use(with_secret(value=STRANGER)), warnings=("key_wrong_entity",)),
    Situation("W&B down, older one in use", in_use(with_error("prove key", UnavailableError("no"))), warnings=("key_unknown",), retries=True),
    Situation("disabled, older one in use", in_use(with_secret(enabled=False)), warnings=("secret_disabled",)),
    # routing
    Situation("entity of the key", with_tags(wandb_entity="team-b")),
    Situation("entity not the key's", with_tags(wandb_entity="team-z"), blocked=("entity_not_writable",)),
    Situation("entity malformed", with_tags(wandb_entity="a/b"), blocked=("entity_malformed",)),
    Situation("entity that is a step up", with_tags(wandb_entity=".."), blocked=("entity_malformed",)),
    Situation("project malformed", with_tags(wandb_project="what?"), blocked=("project_malformed",)),
    Situation("project too long", with_tags(wandb_project="p" * 129), blocked=("project_malformed",)),
    Situation("project at the limit", with_tags(wandb_project="p" * 128)),
    # access
    Situation("role on the resource group", with_roles(role(OFFICER, VAULT_ID.split("/providers")[0]))),
    Situation("role of a management group", with_roles(role(OFFICER, "/providers/Microsoft.Management/managementGroups/mg")), writes=("grant role",)),
    Situation("role on a similarly named vault", with_roles(role(OFFICER, VAULT_ID + "-2")), writes=("grant role",)),
    Situation("weaker role than asked", with_roles(role(USER)), writes=("grant role",)),
    Situation("stronger role than asked", with_roles(role(ADMINISTRATOR)), warnings=("access_stronger_than_asked",)),
    Situation("officer where a user was asked", ready, settings={"VAULT_ROLE": USER}, warnings=("access_stronger_than_asked",)),
    Situation(
        "whole vault where one secret was asked",
        ready,
        settings={"VAULT_ROLE_SCOPE": "secret"},
        warnings=("access_wider_than_asked",),
    ),
    Situation("somebody else's role", with_roles(role(OFFICER, principal=OLD_PRINCIPAL)), writes=("grant role",)),
    Situation(
        "role of an identity that is gone",
        with_roles(role(OFFICER), role(OFFICER, principal=OLD_PRINCIPAL, text=description_for(account_id()))),
        warnings=("access_orphaned",),
    ),
    Situation("roles may not be listed", with_error("list roles", DeniedError("no")), blocked=("access_denied",)),
    Situation("vault gone before its roles were listed", with_error("list roles", MissingError("no")), blocked=("access_refused",)),
    Situation("role listing down", with_error("list roles", UnavailableError("no")), blocked=("access_unavailable",), retries=True),
    Situation(
        "policy mode, no policy",
        with_vault(rbac=False),
        warnings=("vault_policies",),
        writes=("add policy",),
    ),
    Situation(
        "policy without list",
        with_vault(rbac=False, policies=(AccessPolicy(PRINCIPAL, frozenset({"get"})),)),
        warnings=("vault_policies",),
        writes=("add policy",),
    ),
    Situation(
        "policy with all",
        with_vault(rbac=False, policies=(AccessPolicy(PRINCIPAL, frozenset({"all"})),)),
        warnings=("vault_policies",),
    ),
    Situation(
        "policy with more than a user needs",
        with_vault(rbac=False, policies=(AccessPolicy(PRINCIPAL, frozenset({"get", "list", "set"})),)),
        settings={"VAULT_ROLE": USER},
        warnings=("access_policy_stronger", "vault_policies"),
    ),
    # record
    Situation("no record", with_account(tags={"team": "ml"}), writes=("write tags",)),
    Situation("half a record", with_account(tags={"wandb-secret-name": "wandb-api-key"}), writes=("write tags",)),
    Situation("no record while there is no key", lambda: replace(ready(tags={}), secrets={}), blocked=("secret_missing",)),
    # account
    Situation("account may not be read", with_error("read account", DeniedError("no")), blocked=("account_denied",), in_scope=False),
    Situation("account throttled", with_error("read account", ThrottledError("no")), blocked=("account_unavailable",), in_scope=False, retries=True),
    Situation("account's subscription gone", with_error("read account", RejectedError("no", code="SubscriptionNotFound")), blocked=("account_subscription_gone",), in_scope=False),
    Situation("account refused", with_error("read account", RejectedError("no", code="Odd")), blocked=("account_refused",), in_scope=False),
    Situation("account gone", lambda: replace(ready(), accounts={}), in_scope=False, healthy=False),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(item, id=item.name) for item in SITUATIONS])
async def test_findings_and_writes_are_as_listed(case: Situation) -> None:
    azure = case.world()
    report = await run_pass(azure, using=settings(**case.settings))
    assert causes(report, "blocked") == sorted(case.blocked)
    assert causes(report, "warning") == sorted(case.warnings)
    # A write that waits for a principal was tried by nobody.
    assert tuple(azure.writes) == case.writes
    assert report.in_scope is case.in_scope
    assert report.healthy is ((not case.blocked) if case.healthy is None else case.healthy)
    assert (report.retry_after_s is not None) is case.retries
    assert report.settled is not case.retries


@pytest.mark.parametrize("case", [pytest.param(item, id=item.name) for item in SITUATIONS])
async def test_second_pass_writes_nothing_when_the_world_stands_still(case: Situation) -> None:
    azure = case.world()
    using = settings(**case.settings)
    await run_pass(azure, using=using)
    azure.calls.clear()
    again = await run_pass(azure, using=using)
    assert azure.writes == []
    assert len(azure.changes) <= 1
    assert not again.healthy or not again.plan
