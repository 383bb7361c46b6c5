"""Every cause that the sandbox can play, through the running host.

Shows for each: the findings with their remedies, the plan, the writes that were made, and that
after the repair the account is healthy with an empty plan.
"""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import account_id, key_of, vault_id
from tests.e2e.onboarding.scene import Scene
from tests.e2e.onboarding.scenes import (
    OTHER_TENANT,
    TENANT,
    Move,
    Played,
    Situation,
    playing,
    wanted,
)

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

ENTITY = "sandbox-team"
ON = {"identity": {"type": "SystemAssigned"}}
POLICIES = {"enableRbacAuthorization": False}
USER_IDENTITY = (
    f"{account_id('x').split('/providers')[0]}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)
FULL_PLAN = ("enable_identity", "grant_role", "write_record")
ALL_WRITES = ("PATCH account 200", "PUT role 201")
NO_RECORD_YET = {"plan": ("enable_identity", "grant_role")}
"""Without a key in use there is nothing to record."""
ADMINISTRATOR = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
USER_ROLE = "4633458b-17de-408a-b874-0445c86b69e6"


def refusing(method: str, below: str, status: int, code: str) -> Move:
    async def move(scene: Scene) -> None:
        path = below.format(account=account_id(scene.name), vault=vault_id(scene.vault))
        body = {"error": {"code": code, "message": "played by the sandbox"}}
        await scene.fault(method, path, status=status, body=body)

    return move


def looked_at(*moves: Move) -> Move:
    """Do the moves, then let an event of someone else's write come."""

    async def move(scene: Scene) -> None:
        for one in moves:
            await one(scene)
        await scene.look()

    return move


def secret(**more: Any) -> Move:
    async def move(scene: Scene) -> None:
        await scene.secret(**more)

    return move


def key(state: str = "active", **more: Any) -> Move:
    """Store a key that W&B knows under these terms."""

    async def move(scene: Scene) -> None:
        value = await scene.own_key(f"{state} {sorted(more.items())}", state=state, **more)
        await scene.secret(value=value)

    return move


def tags(**values: str | None) -> Move:
    async def move(scene: Scene) -> None:
        await scene.tag(**values)

    return move


def denied(code: str | None) -> Move:
    async def move(scene: Scene) -> None:
        await scene.deny(code)

    return move


def network(**properties: Any) -> Move:
    async def move(scene: Scene) -> None:
        await scene.change_vault(**properties)

    return move


def own_vault(**properties: Any) -> Move:
    async def move(scene: Scene) -> None:
        await scene.place.make_vault(scene.vault, **({"tenantId": TENANT} | properties))
        await scene.secret()

    return move


def role(guid: str) -> Move:
    async def move(scene: Scene) -> None:
        await scene.place.arm(
            "PUT",
            f"{vault_id(scene.vault)}/providers/Microsoft.Authorization/roleAssignments/{uuid4()}",
            {
                "properties": {
                    "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{guid}",
                    "principalId": await scene.principal(),
                }
            },
        )

    return move


async def delete_roles(scene: Scene) -> None:
    base = f"{vault_id(scene.vault)}/providers/Microsoft.Authorization/roleAssignments"
    for item in (await scene.place.arm("GET", base))["value"]:
        await scene.place.arm("DELETE", item["id"])


async def weaken_policy(scene: Scene) -> None:
    entry = {
        "tenantId": TENANT,
        "objectId": await scene.principal(),
        "permissions": {"secrets": ["get"]},
    }
    await scene.place.arm(
        "PUT",
        f"{vault_id(scene.vault)}/accessPolicies/replace",
        {"properties": {"accessPolicies": [entry]}},
    )


async def identity_off(scene: Scene) -> None:
    await scene.patch(identity={"type": "None"})


async def busy(scene: Scene) -> None:
    """Somebody's own change of the account goes on for a while."""
    await scene.pace(lro_seconds=25)
    await scene.patch(tags={**(await scene.place.account(scene.name))["tags"], "team": "ml"})
    await scene.pace(lro_seconds=0)


async def provisioning_failed(scene: Scene) -> None:
    body = await scene.place.account(scene.name)
    body["properties"]["provisioningState"] = "Failed"
    await scene.fault("GET", account_id(scene.name), status=200, body=body)


async def delete_vault(scene: Scene) -> None:
    await scene.place.arm("DELETE", vault_id(scene.vault))


async def recover_vault(scene: Scene) -> None:
    await scene.place.make_vault(scene.vault, createMode="recover")


async def subdomain(scene: Scene) -> None:
    await scene.patch(properties={"customSubDomainName": scene.name})


async def delete_account(scene: Scene) -> None:
    await scene.place.arm("DELETE", account_id(scene.name))


async def keeps_user_identities(scene: Scene) -> None:
    identity = (await scene.place.account(scene.name))["identity"]
    assert identity["type"] == "SystemAssigned, UserAssigned"
    assert list(identity["userAssignedIdentities"]) == [USER_IDENTITY]


GET_ACCOUNT = ("GET", "{account}")
GET_VAULT = ("GET", "{vault}")
GET_ROLES = ("GET", "{vault}/providers/Microsoft.Authorization/roleAssignments")
GET_SECRET = ("GET", "/secrets/")
ROLE_PUT = ("PUT role 201",)
TO_MAIN = ("PATCH account 200",)
"""The role is given on the settings' vault, which all share."""

GOOD = secret()

CASES = [
    # eligible
    Situation("all well", plan=FULL_PLAN, writes=ALL_WRITES, repaired=()),
    Situation("Foundry account", account={"kind": "AIServices"}, plan=FULL_PLAN, writes=ALL_WRITES, repaired=()),
    Situation("a user identity is kept", account={"identity": {"type": "UserAssigned", "userAssignedIdentities": {USER_IDENTITY: {}}}}, plan=FULL_PLAN, writes=ALL_WRITES, repair=keeps_user_identities, repaired=()),
    Situation("switched off", tags={"wandb-integration": "off"}, plan=(), writes=(), repair=tags(wandb_integration=None), repaired=ALL_WRITES),
    Situation("observed", tags={"wandb-integration": "observe"}, blocked=("access_missing", "identity_off"), warnings=("record_missing",), plan=FULL_PLAN, steps=dict.fromkeys(FULL_PLAN, "skipped"), writes=(), repair=tags(wandb_integration="on"), repaired=ALL_WRITES),
    Situation("mode unknown", tags={"wandb-integration": "onn"}, blocked=("mode_tag_unknown",), plan=(), writes=(), repair=tags(wandb_integration="on"), repaired=ALL_WRITES),
    Situation("a change under way", then=looked_at(busy), blocked=("operation_under_way",), plan=(), writes=(), looks=False, repaired=()),
    Situation("provisioning failed", then=looked_at(provisioning_failed), blocked=("provisioning_failed",), plan=(), writes=(), repaired=()),
    Situation("no subdomain", account={"properties": {}}, blocked=("no_custom_subdomain",), plan=FULL_PLAN, writes=ALL_WRITES, repair=subdomain, repaired=()),
    Situation("account may not be read", before=refusing(*GET_ACCOUNT, 403, "AuthorizationFailed"), blocked=("account_denied",), plan=(), writes=(), repaired=ALL_WRITES),
    Situation("account refused", before=refusing(*GET_ACCOUNT, 400, "Odd"), blocked=("account_refused",), plan=(), writes=(), repaired=ALL_WRITES),
    Situation("account not answered", before=refusing(*GET_ACCOUNT, 500, "InternalServerError"), blocked=("account_unavailable",), plan=(), writes=(), repaired=ALL_WRITES),
    Situation("account deleted", then=looked_at(delete_account), ends="closed"),
    # identity
    Situation("identity switched off", then=identity_off, warnings=("access_orphaned",), plan=("enable_identity", "grant_role"), writes=("PATCH account 200", "PUT role 201"), repaired=(), remains=("access_orphaned",)),
    # vault
    Situation("access policies", vault=POLICIES, warnings=("vault_policies",), plan=("enable_identity", "add_access_policy", "write_record"), writes=("PATCH account 200", "PUT policy 200"), repaired=(), remains=("vault_policies",)),
    Situation("vault tag is no vault", tags={"wandb-key-vault-url": "https://kv-e2e-000.vault.azure.net.evil.example"}, blocked=("vault_url_malformed",), plan=("enable_identity",), writes=("PATCH account 200",), repair=tags(wandb_key_vault_url=None), repaired=TO_MAIN),
    Situation("vault not allowed", tags={"wandb-key-vault-url": "https://kv-elsewhere.vault.azure.net"}, blocked=("vault_not_allowed",), plan=("enable_identity",), writes=("PATCH account 200",), repair=tags(wandb_key_vault_url=None), repaired=TO_MAIN),
    Situation("vault of another cloud", tags={"wandb-key-vault-url": "https://kv-sandbox.vault.azure.cn"}, blocked=("vault_not_allowed",), plan=("enable_identity",), writes=("PATCH account 200",), repair=tags(wandb_key_vault_url=None), repaired=TO_MAIN),
    Situation("vault missing", vault=None, blocked=("secret_unavailable", "vault_missing"), plan=("enable_identity",), writes=("PATCH account 200",), repair=own_vault(), repaired=("PATCH account 200", "PUT role 201")),
    Situation("vault soft-deleted", then=looked_at(delete_vault), blocked=("vault_soft_deleted",), warnings=("secret_unavailable",), plan=(), writes=(), repair=recover_vault, repaired=ROLE_PUT),
    Situation("vault may not be read", then=looked_at(refusing(*GET_VAULT, 403, "AuthorizationFailed")), blocked=("vault_denied",), plan=(), writes=(), repaired=()),
    Situation("vault refused", then=looked_at(refusing(*GET_VAULT, 400, "Odd")), blocked=("vault_refused",), plan=(), writes=(), repaired=()),
    Situation("vault not answered", then=looked_at(refusing(*GET_VAULT, 503, "ServiceUnavailable")), blocked=("vault_unavailable",), plan=(), writes=(), repaired=()),
    Situation("vault of another tenant", vault={"tenantId": OTHER_TENANT}, blocked=("vault_other_tenant",), plan=FULL_PLAN, steps={"enable_identity": "done", "grant_role": "skipped"}, writes=("PATCH account 200",), repair=tags(wandb_key_vault_url=None), repaired=TO_MAIN),
    Situation("private vault", vault={"networkAcls": {"defaultAction": "Deny", "bypass": "None", "ipRules": [{"value": "127.0.0.1/32"}]}}, warnings=("vault_network_closed",), plan=FULL_PLAN, writes=ALL_WRITES, repaired=(), remains=("vault_network_closed",)),
    # secret
    Situation("secret name is none", tags={"wandb-secret-name": "a/b?c"}, blocked=("secret_name_malformed",), plan=("enable_identity",), writes=("PATCH account 200",), repair=tags(wandb_secret_name=None), repaired=("PATCH account 200", "PUT role 201")),
    Situation("secret not allowed", tags={"wandb-secret-name": "db-password"}, blocked=("secret_not_allowed",), plan=("enable_identity",), writes=("PATCH account 200",), repair=tags(wandb_secret_name=None), repaired=("PATCH account 200", "PUT role 201")),
    Situation("secret missing", bare=True, blocked=("secret_missing",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("secret disabled", bare=True, before=secret(enabled=False), blocked=("secret_disabled",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("secret not yet valid", bare=True, before=secret(not_before="2029-01-01", expires=None), blocked=("secret_not_yet_valid",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("secret expired", bare=True, before=secret(expires="2025-01-01"), blocked=("secret_expired",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("secret without end", before=secret(expires=None), warnings=("secret_no_expiry",), plan=FULL_PLAN, writes=ALL_WRITES, repair=GOOD, looks=False, repaired=()),
    Situation("no role for the app", before=denied("ForbiddenByRbac"), blocked=("secret_forbidden_by_rbac",), **NO_RECORD_YET, repair=denied(None), repaired=("PATCH account 200",)),
    Situation("no policy for the app", before=denied("AccessDenied"), blocked=("secret_access_denied",), **NO_RECORD_YET, repair=denied(None), repaired=("PATCH account 200",)),
    Situation("firewall against the app", vault={"networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices"}}, blocked=("secret_forbidden_by_firewall",), **NO_RECORD_YET, repair=network(networkAcls={"defaultAction": "Allow"}), repaired=("PATCH account 200",)),
    Situation("private endpoint only", vault={"publicNetworkAccess": "Disabled"}, blocked=("secret_forbidden_by_connection",), warnings=("vault_network_closed",), **NO_RECORD_YET, repair=network(publicNetworkAccess="Enabled"), repaired=("PATCH account 200",)),
    Situation("unknown refusal of the vault", before=refusing(*GET_SECRET, 403, "Whatever"), blocked=("secret_forbidden",), **NO_RECORD_YET, repaired=("PATCH account 200",)),
    Situation("vault throttles", before=refusing(*GET_SECRET, 429, "TooManyRequests"), blocked=("secret_unavailable",), **NO_RECORD_YET, repaired=("PATCH account 200",)),
    # key
    Situation("no key", bare=True, before=secret(value="not a key"), blocked=("key_malformed",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("key revoked", bare=True, before=key("revoked"), blocked=("key_rejected",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("key of others", bare=True, before=key(entity="others"), blocked=("key_wrong_entity",), **NO_RECORD_YET, repair=GOOD, looks=False, repaired=("PATCH account 200",)),
    Situation("key revoked, an older one in use", then=key("revoked"), warnings=("key_rejected",), plan=(), writes=(), repair=secret(value=key_of("one more")), looks=False, repaired=()),
    Situation("newest disabled, an older one in use", then=secret(enabled=False), warnings=("secret_disabled",), plan=(), writes=(), repair=GOOD, looks=False, repaired=()),
    # routing
    Situation("team of the tag", tags={"wandb-entity": ENTITY.upper(), "wandb-project": "p" * 128}, plan=FULL_PLAN, writes=ALL_WRITES, repaired=()),
    Situation("team malformed", tags={"wandb-entity": "a/b"}, blocked=("entity_malformed",), plan=FULL_PLAN, repair=tags(wandb_entity=None), repaired=()),
    Situation("project malformed", tags={"wandb-project": "what?"}, blocked=("project_malformed",), plan=FULL_PLAN, repair=tags(wandb_project=None), repaired=()),
    Situation("team is not the key's", tags={"wandb-entity": "team-z"}, blocked=("entity_not_writable",), plan=FULL_PLAN, repair=tags(wandb_entity=None), repaired=()),
    # access
    Situation("role removed", then=delete_roles, plan=("grant_role",), steps={"grant_role": "done"}, writes=ROLE_PUT, repaired=()),
    Situation("role too strong", then=looked_at(role(ADMINISTRATOR)), warnings=("access_stronger_than_asked",), plan=(), writes=None, remains=("access_stronger_than_asked",)),
    Situation("policy without list", vault=POLICIES, then=weaken_policy, warnings=("vault_policies",), plan=("add_access_policy",), steps={"add_access_policy": "done"}, writes=None, repaired=(), remains=("vault_policies",)),
    Situation("roles may not be read", then=looked_at(refusing(*GET_ROLES, 403, "AuthorizationFailed")), blocked=("access_denied",), plan=(), writes=(), repaired=()),
    Situation("roles refused", then=looked_at(refusing(*GET_ROLES, 400, "Odd")), blocked=("access_refused",), plan=(), writes=(), repaired=()),
    Situation("roles not answered", then=looked_at(refusing(*GET_ROLES, 500, "InternalServerError")), blocked=("access_unavailable",), plan=(), writes=(), repaired=()),
    # record
    Situation("half a record removed", then=tags(wandb_secret_name=None), plan=("write_record",), steps={"write_record": "done"}, writes=("PATCH account 200",), repaired=()),
    # portal
    Situation("portal done by tag", tags={"wandb-portal-update": "done"}, plan=FULL_PLAN, writes=ALL_WRITES, repaired=()),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    async with playing(
        tmp_path_factory.mktemp("run"), wanted(CASES, request), WANDB_ENTITY=ENTITY
    ) as started:
        yield started


@pytest.mark.parametrize("case", [case.name for case in CASES])
async def test_findings_and_writes_are_as_listed_and_repair_empties_the_plan(
    played: Played, case: str
) -> None:
    await played.result(case)
