"""The accounts table over real HTTP, and the fake: what was written comes back, and merges keep the rest."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.clients.storage.account_tables import AccountTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.ports import AccountStore
from finetune_wandb.model.accounts.report import AccountReport, Finding, Told
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.routes import read_routes
from tests.accounts.stage import run_pass
from tests.fakes import GOOD, NOW, PLACE, FakeAccountTable, World, account_id, settings, world


@pytest.fixture(params=["table", "fake"])
def table(request: pytest.FixtureRequest) -> AccountStore:
    if request.param == "fake":
        return FakeAccountTable(World())
    return AccountTable(request.getfixturevalue("storage"))


async def healthy(name: str = "alpha") -> AccountReport:
    azure = world()
    azure.accounts = {
        account_id(name).key: replace(item, id=account_id(name)) for item in azure.accounts.values()
    }
    return await run_pass(azure, name=name)


async def test_report_comes_back_as_written(table: AccountStore) -> None:
    report = replace(await healthy(), told=Told(NOW, True, ("grant_role|x",)))
    await table.write(report)
    assert await table.read(report.id) == report
    assert await table.list_all() == [report]


async def test_entry_is_one_when_the_id_is_spelt_otherwise(table: AccountStore) -> None:
    report = await healthy()
    await table.write(report)
    spelt = AccountId(report.id.subscription.upper(), "RG-AI", "ALPHA")
    await table.write(replace(report, id=spelt))
    assert len(await table.list_all()) == 1
    assert await table.read(report.id) is not None


async def test_nothing_is_read_when_nothing_was_written(table: AccountStore) -> None:
    assert await table.read(account_id()) is None
    assert await table.list_all() == []
    assert await table.list_for_relay() == []


async def test_relay_gets_only_what_it_needs(table: AccountStore) -> None:
    report = await healthy()
    await table.write(report)
    assert await table.list_for_relay() == [
        RelayAccount(
            id=report.id,
            name="alpha",
            endpoint="https://alpha.openai.azure.com",
            region="swedencentral",
            subscription=report.id.subscription,
            entity="team-a",
            project="azure-openai-fine-tuning",
            secret=PLACE,
        )
    ]


@pytest.mark.parametrize(
    "tags",
    [
        {"wandb-integration": "off"},
        {"wandb-project": "a/b"},
        {"wandb-entity": "a/b"},
        {"wandb-secret-name": "db-password"},
        {"wandb-key-vault-url": "https://kv-evil.vault.azure.net"},
    ],
    ids=str,
)
async def test_relay_does_not_get_accounts_that_are_off_or_go_nowhere(
    table: AccountStore, tags: dict[str, str]
) -> None:
    azure = world()
    key = account_id().key
    azure.accounts[key] = replace(azure.accounts[key], tags=tags)
    await table.write(await run_pass(azure, using=settings()))
    assert await table.list_for_relay() == []


async def test_relay_loses_the_account_when_its_vault_is_no_longer_allowed(
    table: AccountStore,
) -> None:
    azure = world()
    await table.write(await run_pass(azure))
    assert len(await table.list_for_relay()) == 1
    await table.write(
        await run_pass(azure, using=settings(KEY_VAULT_URL="https://kv-new.vault.azure.net"))
    )
    assert await table.list_for_relay() == []


async def test_facts_stay_when_the_account_cannot_be_read_for_a_while(
    table: AccountStore,
) -> None:
    azure = world()
    before = await run_pass(azure)
    await table.write(before)
    azure.errors["read account"] = [UnavailableError("no")]
    await table.write(await run_pass(azure, now=NOW + timedelta(hours=1)))
    entry = await table.read(before.id)
    assert entry is not None
    assert (entry.endpoint, entry.healthy, entry.in_scope) == (before.endpoint, True, True)
    assert [item.cause for item in entry.findings] == ["account_unavailable"]
    assert entry.checked_at == NOW + timedelta(hours=1)
    assert len(await table.list_for_relay()) == 1


async def test_deleted_account_is_closed_and_opens_again(table: AccountStore) -> None:
    azure = world()
    report = await run_pass(azure)
    await table.write(report)
    await table.write(replace(report, deleted=True, checked_at=NOW + timedelta(hours=1)))
    entry = await table.read(report.id)
    assert entry is not None
    assert (entry.deleted, entry.in_scope, entry.healthy) == (True, False, False)
    assert await table.list_for_relay() == []
    await table.write(report)
    assert len(await table.list_for_relay()) == 1


async def test_no_entry_is_made_for_an_account_that_never_was(table: AccountStore) -> None:
    azure = world()
    azure.accounts.clear()
    await table.write(await run_pass(azure))
    await table.mark_native_seen(account_id())
    assert await table.list_all() == []


async def test_native_integration_is_remembered(table: AccountStore) -> None:
    report = await healthy()
    await table.write(report)
    await table.mark_native_seen(report.id)
    entry = await table.read(report.id)
    assert entry is not None
    assert entry.native_seen
    (seen,) = await table.list_for_relay()
    assert seen.native_seen


async def test_native_integration_is_forgotten_when_the_account_is_deleted(
    table: AccountStore,
) -> None:
    report = await healthy()
    await table.write(report)
    await table.mark_native_seen(report.id)
    await table.write(replace(report, deleted=True))
    await table.write(report)
    (seen,) = await table.list_for_relay()
    assert not seen.native_seen


async def test_row_is_written_when_it_has_too_many_findings(storage: Storage) -> None:
    table = AccountTable(storage)
    many = tuple(
        Finding("access", "warning", "access_orphaned", {"n": "x" * 900}) for _ in range(90)
    )
    await table.write(replace(await healthy(), findings=many))
    entry = await table.read(account_id())
    assert entry is not None
    assert 0 < len(entry.findings) < 90


async def test_relay_gets_the_rules_that_jobs_of_the_account_can_meet(storage: Storage) -> None:
    rules = read_routes(
        '[{"match": {"account_tag": {"team": "text"}}, "project": "text"},'
        ' {"match": {"account_tag": {"team": "vision"}, "suffix": "a"}, "project": "a"},'
        ' {"project": "all"}]'
    )
    table = AccountTable(storage, rules, ("prod",))
    await table.write(replace(await healthy(), tags={"team": "vision", "wandb-project": "p"}))
    (account,) = await table.list_for_relay()
    assert [rule.project for rule in account.routes] == ["a", "all"]
    assert (account.run_tags, account.tags) == (("prod",), {"wandb-project": "p"})


async def test_new_rule_knows_tags_that_no_rule_named_at_the_accounts_last_pass(
    storage: Storage,
) -> None:
    azure = world()
    key = account_id().key
    azure.accounts[key] = replace(
        azure.accounts[key], tags={"Team": " secret ", "Wandb-Entity": " "}
    )
    await AccountTable(storage).write(await run_pass(azure))
    rule = (
        '[{"match": {"account_tag": {"team": "secret", "wandb-entity": ""}}, "project": "hidden"}]'
    )
    (account,) = await AccountTable(storage, read_routes(rule)).list_for_relay()
    assert [one.project for one in account.routes] == ["hidden"]
    assert account.tags == {}


async def test_row_is_written_when_an_account_has_the_longest_tags(storage: Storage) -> None:
    report = await healthy()
    tags = {f"{number:02}{'n' * 510}": "v" * 256 for number in range(50)}
    table = AccountTable(storage)
    await table.write(replace(report, tags=tags))
    entry = await table.read(report.id)
    assert entry is not None
    assert 30 < len(entry.tags) < 50


async def test_findings_about_rules_crowd_out_no_others(storage: Storage) -> None:
    azure = world()
    rules = [
        {"match": {"suffix": f"s{number}"}, "entity": "team-b", "project": f"p{number}"}
        for number in range(200)
    ]
    for number in range(150, 200):
        azure.rights[GOOD, "team-b", f"p{number}"] = "read_only"
    report = await run_pass(azure, using=settings(ROUTES=json.dumps(rules)))
    table = AccountTable(storage)
    await table.write(report)
    entry = await table.read(report.id)
    assert entry is not None
    assert {item.check for item in entry.findings} == {item.check for item in report.findings}
    assert sum(item.cause == "project_read_only" for item in entry.findings) == 50
