"""The whole pass with the real clients over real HTTP: end state, and what it costs."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from dev.sandbox import tokens
from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.accounts.reconcile import reconcile_account
from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.azure.vaults import KeyVault, Roles, VaultResources
from finetune_wandb.clients.key_ring import KeyRing
from finetune_wandb.clients.storage.account_tables import AccountTable, KeyTable
from finetune_wandb.clients.storage.audit_table import AuditTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.keys import KeyProver
from finetune_wandb.model.accounts.account import TAG_SECRET, TAG_VAULT
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.accounts.vault import ROLE_IDS
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.secret import Secret
from finetune_wandb.model.settings import USER, Settings, read_settings
from tests.clients.azure_stage import (
    ALPHA,
    KEY,
    PLACE,
    SECRET,
    USER_IDENTITY,
    VAULT,
    forget_requests,
    make_account,
    make_vault,
    put_secret,
    requests,
)
from tests.dev.sandbox.stage import GROUP, SUBSCRIPTION, Client, vault_path

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
async def ports(sandbox: Client, transport: Transport, storage: Storage) -> ReconcilePorts:
    accounts, roles = Accounts(transport, wait_s=2), Roles(transport)
    vaults, secrets = VaultResources(transport, (SUBSCRIPTION,)), KeyVault(transport)
    return ReconcilePorts(
        accounts=accounts,
        vaults=vaults,
        secrets=secrets,
        roles=roles,
        prover=KeyProver(transport, sandbox.process.wandb_url),
        keys=KeyTable(storage),
        audit=AuditTable(storage),
        own_principal=transport.principal_id,
    )


def settings(sandbox: Client, **more: str) -> Settings:
    return read_settings(
        {
            "AZURE_SUBSCRIPTION_IDS": SUBSCRIPTION,
            "KEY_VAULT_URL": VAULT.url,
            "WANDB_BASE_URL": sandbox.process.wandb_url,
        }
        | more
    )


async def run_pass(
    sandbox: Client,
    ports: ReconcilePorts,
    account: AccountId = ALPHA,
    *,
    apply: bool = True,
    fresh_after: datetime | None = None,
    ahead: timedelta = timedelta(0),
    **more: str,
) -> AccountReport:
    now = datetime.now(UTC) + ahead
    return await reconcile_account(
        account,
        ports=ports,
        settings=settings(sandbox, **more),
        now=now,
        apply=apply,
        fresh_after=fresh_after or now,
    )


@pytest.fixture
async def stage(sandbox: Client) -> Client:
    """A vault of the account's tenant with a good key in it, and an account with an own identity."""
    probe = {"identity": {"type": "SystemAssigned"}}
    await make_account(sandbox, "probe", **probe)
    path = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
        "/Microsoft.CognitiveServices/accounts/probe?api-version=2025-09-01"
    )
    _, answer, _ = await sandbox.call("GET", path)
    await make_vault(sandbox, tenantId=answer["identity"]["tenantId"])
    await sandbox.call("DELETE", path)
    await put_secret(sandbox, expires="2037-01-01T00:00:00Z")
    await sandbox.control("PUT", "wandb/keys", {"key": KEY, "entity": "team-a"})
    await make_account(
        sandbox,
        identity={"type": "UserAssigned", "userAssignedIdentities": {USER_IDENTITY: {}}},
        tags={"team": "ml"},
    )
    await forget_requests(sandbox)
    return sandbox


async def test_account_is_healthy_after_one_pass_and_the_next_writes_nothing(
    stage: Client, ports: ReconcilePorts, storage: Storage, transport: Transport
) -> None:
    report = await run_pass(stage, ports)
    assert [item.cause for item in report.findings if item.severity != "ok"] == ["portal_update"]
    assert report.healthy
    account = await ports.accounts.read(ALPHA)
    assert account.system_identity
    assert account.user_identities == (USER_IDENTITY,)
    assert account.tags == {"team": "ml", TAG_VAULT: VAULT.url, TAG_SECRET: SECRET}

    await forget_requests(stage)
    again = await run_pass(stage, ports)
    assert (again.healthy, again.plan) == (True, ())
    assert {method for method, _, _ in await requests(stage)} == {"GET"}

    vault = KeyVault(transport)
    key = await KeyRing(KeyTable(storage), vault).run_key(PLACE)
    assert (key.value, key.entity) == (Secret(KEY), "team-a")


async def test_onboarding_costs_five_calls_to_azure_when_the_vault_is_known(
    stage: Client, ports: ReconcilePorts
) -> None:
    await run_pass(stage, ports)
    await make_account(stage, "beta")
    await forget_requests(stage)
    beta = AccountId(SUBSCRIPTION, GROUP, "beta")
    report = await run_pass(stage, ports, beta, fresh_after=datetime(2026, 1, 1, tzinfo=UTC))
    assert report.healthy, report.findings
    asked = [(method, status) for method, _, status in await requests(stage)]
    assert asked == [("GET", 200), ("GET", 200), ("PATCH", 200), ("PUT", 201)]
    assert await requests(stage, "vault") == []
    assert await requests(stage, "wandb") == []


async def test_nothing_is_written_when_only_looking(stage: Client, ports: ReconcilePorts) -> None:
    report = await run_pass(stage, ports, apply=False)
    assert [item.kind for item in report.plan] == [
        "enable_identity",
        "grant_role",
        "write_record",
    ]
    assert {method for method, _, _ in await requests(stage)} == {"GET"}


async def test_role_is_deferred_and_later_given_when_the_directory_is_slow(
    stage: Client, ports: ReconcilePorts
) -> None:
    await stage.settings(principal_replication_s=1.0)
    report = await run_pass(stage, ports)
    assert [item.state for item in report.steps] == ["done", "deferred", "done"]
    assert report.steps[1].code == "PrincipalNotFound"
    assert report.retry_after_s is not None
    await asyncio.sleep(1.1)
    assert (await run_pass(stage, ports)).healthy


async def read_as(stage: Client, principal: str, secret: str) -> int:
    """Return the status that an identity gets for a secret."""
    token = tokens.issue(tokens.DEFAULT_TENANT, "", "https://vault.azure.net", principal)
    path = f"/_host/{VAULT.host}/secrets/{secret}?api-version=7.5"
    status, _, _ = await stage.call("GET", path, Authorization=f"Bearer {token}")
    return status


async def give_own_role(stage: Client, transport: Transport) -> None:
    """Do what the deployment does: the app may read the vault."""
    vault_id, own, role = vault_path("kv-main"), await transport.principal_id(), ROLE_IDS[USER]
    await Roles(transport).assign(vault_id, role, own, "the app")


NARROW = {"VAULT_ROLE": USER, "VAULT_ROLE_SCOPE": "secret"}


async def test_account_reads_its_secret_and_no_other_when_the_role_is_on_the_secret(
    stage: Client, ports: ReconcilePorts
) -> None:
    await stage.control("PUT", "vaults/kv-main/secrets/another", {"value": "x"})
    report = await run_pass(stage, ports, **NARROW)
    assert report.healthy, report.findings
    await stage.settings(enforce_vault_access=True)
    assert await read_as(stage, report.principal_id, SECRET) == 200
    assert await read_as(stage, report.principal_id, "another") == 403


async def test_right_on_the_vault_is_taken_back_when_settings_ask_for_the_secret_only(
    stage: Client, ports: ReconcilePorts, transport: Transport
) -> None:
    await stage.control("PUT", "vaults/kv-main/secrets/another", {"value": "x"})
    principal = (await run_pass(stage, ports)).principal_id
    await stage.settings(enforce_vault_access=True)
    await give_own_role(stage, transport)
    shown = await run_pass(stage, ports, apply=False, **NARROW)
    assert [item.kind for item in shown.plan] == ["grant_role", "revoke_role"]
    report = await run_pass(stage, ports, **NARROW)
    assert [(item.step.kind, item.state) for item in report.steps] == [
        ("grant_role", "done"),
        ("revoke_role", "deferred"),
    ]
    assert await read_as(stage, principal, "another") == 200
    # Half an hour later the narrower role is in effect everywhere.
    report = await run_pass(stage, ports, ahead=timedelta(minutes=31), **NARROW)
    assert [(item.step.kind, item.state) for item in report.steps] == [("revoke_role", "done")]
    assert report.healthy
    assert await read_as(stage, principal, SECRET) == 200
    assert await read_as(stage, principal, "another") == 403
    # The role that the deployment gave to the app itself stayed.
    assert (await run_pass(stage, ports, **NARROW)).plan == ()


async def test_vault_is_not_ready_yet_when_the_apps_own_role_is_fresh(
    stage: Client, ports: ReconcilePorts, transport: Transport
) -> None:
    await stage.settings(enforce_vault_access=True, rbac_propagation_s=1.0)
    assert "secret_forbidden_by_rbac" in {
        item.cause for item in (await run_pass(stage, ports)).findings
    }
    await give_own_role(stage, transport)
    report = await run_pass(stage, ports)
    assert "secret_role_spreading" in {item.cause for item in report.findings}
    assert report.retry_after_s is not None
    await asyncio.sleep(1.1)
    assert (await run_pass(stage, ports)).healthy


async def test_pass_waits_for_nothing_when_the_account_is_busy(
    stage: Client, ports: ReconcilePorts
) -> None:
    await stage.settings(lro_seconds=60)
    report = await run_pass(stage, ports)
    assert {item.state for item in report.steps} == {"deferred"}
    busy = await run_pass(stage, ports)
    assert busy.steps == ()
    assert "operation_under_way" in {item.cause for item in busy.findings}
    assert busy.retry_after_s is not None


async def test_policy_is_added_when_the_vault_uses_policies(
    stage: Client, ports: ReconcilePorts
) -> None:
    tenant = (await ports.vaults.find(VAULT)).tenant_id
    await make_vault(stage, tenantId=tenant, enableRbacAuthorization=False)
    report = await run_pass(stage, ports)
    assert report.healthy, report.findings
    policy = (await ports.vaults.find(VAULT)).policy_of(report.principal_id)
    assert policy is not None
    assert policy.secret_permissions >= {"get", "list"}


async def test_forty_accounts_cost_at_most_eight_calls_each(
    stage: Client, ports: ReconcilePorts, storage: Storage
) -> None:
    names = [f"acc{number:02}" for number in range(40)]
    for name in names:
        await make_account(stage, name)
    await forget_requests(stage)
    table = AccountTable(storage)
    # One drift pass sends all its messages at one time; what is read after that serves them all.
    sent = datetime.now(UTC)

    async def one(name: str) -> None:
        account = AccountId(SUBSCRIPTION, GROUP, name)
        report = await run_pass(stage, ports, account, fresh_after=sent)
        assert report.healthy, report.findings
        await table.write(report)

    await asyncio.gather(*(one(name) for name in names))
    calls = sum([len(await requests(stage, name)) for name in ("arm", "vault", "wandb")])
    assert calls <= 8 * len(names)
    assert len(await table.list_for_relay()) == len(names)


async def test_key_is_in_no_log_report_or_table(
    stage: Client, ports: ReconcilePorts, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    report = await run_pass(stage, ports)
    await AccountTable(storage).write(report)
    rows = []
    for name in ("accounts", "keys", "audit"):
        rows.extend(await Table(storage, name).query())
    assert len(rows) == 7
    assert KEY not in caplog.text + repr(rows) + repr(report)
