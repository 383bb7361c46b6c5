"""The main path: an account as somebody made it becomes one whose integration works."""

import json
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from finetune_wandb.model.accounts.account import TAG_ENTITY, TAG_SECRET, TAG_VAULT
from finetune_wandb.model.accounts.key import KeyOwner, WriteRight
from finetune_wandb.model.accounts.vault import ROLE_IDS
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import USER
from tests.accounts.stage import causes, run_pass
from tests.fakes import (
    BETTER,
    GOOD,
    NOW,
    OLD_PRINCIPAL,
    OTHER_VAULT,
    PLACE,
    PRINCIPAL,
    TENANT,
    USER_IDENTITY,
    VAULT,
    VAULT_ID,
    account,
    account_id,
    settings,
    version,
    world,
)


async def test_account_becomes_healthy_when_everything_was_missing() -> None:
    azure = world()
    report = await run_pass(azure)
    assert report.healthy
    assert report.in_scope
    assert [item.state for item in report.steps] == ["done", "done", "done"]
    assert azure.writes == ["enable identity", "grant role"]
    assert azure.accounts[account_id().key].tags == {
        TAG_VAULT: VAULT.url,
        TAG_SECRET: "wandb-api-key",
    }
    assert (report.entity, report.project) == ("team-a", "azure-openai-fine-tuning")
    assert report.secret == PLACE
    assert report.principal_id == PRINCIPAL
    assert causes(report, "blocked", "warning") == []


async def test_nothing_is_written_when_the_pass_is_repeated() -> None:
    azure = world()
    await run_pass(azure)
    azure.calls.clear()
    again = await run_pass(azure, now=NOW + timedelta(minutes=5))
    assert azure.writes == []
    assert again.plan == ()
    assert again.healthy
    assert "store key record" not in azure.calls
    assert len(azure.changes) == 1


async def test_onboarding_costs_five_calls_when_vault_and_key_are_known() -> None:
    azure = world(account("alpha"), account("beta"))
    ports = azure.ports()
    await run_pass(azure, name="alpha", ports=ports)
    azure.calls.clear()
    report = await run_pass(azure, name="beta", ports=ports)
    assert report.healthy
    assert azure.calls == [
        "read account",
        "read account",
        "write enable identity",
        "write grant role",
    ]


async def test_dry_run_shows_the_whole_plan_and_writes_nothing() -> None:
    azure = world()
    report = await run_pass(azure, apply=False)
    assert azure.writes == []
    assert report.mode == "full"
    assert [item.kind for item in report.plan] == [
        "enable_identity",
        "grant_role",
        "write_record",
    ]
    assert {item.state for item in report.steps} == {"skipped"}
    assert not report.healthy


@pytest.mark.parametrize(
    ("using", "tags"),
    [
        pytest.param({"APPLY_MODE": "observe"}, {}, id="by setting"),
        pytest.param({}, {"wandb-integration": "observe"}, id="by tag"),
    ],
)
async def test_nothing_is_written_when_only_observing(
    using: dict[str, str], tags: dict[str, str]
) -> None:
    azure = world(account(tags=tags))
    report = await run_pass(azure, using=settings(**using))
    assert azure.writes == []
    assert report.mode == "observe"
    assert report.plan


async def test_user_identities_are_kept_in_the_plan_when_the_system_one_is_added() -> None:
    azure = world(account(user_identities=(USER_IDENTITY,)))
    report = await run_pass(azure)
    assert report.plan[0].values["keeps"] == USER_IDENTITY
    assert azure.accounts[account_id().key].user_identities == (USER_IDENTITY,)


async def test_role_goes_to_the_one_secret_when_settings_say_so() -> None:
    azure = world()
    await run_pass(azure, using=settings(VAULT_ROLE=USER, VAULT_ROLE_SCOPE="secret"))
    assert [(item.scope, item.role_id) for item in azure.assignments] == [
        (f"{VAULT_ID}/secrets/wandb-api-key".lower(), ROLE_IDS[USER])
    ]


async def test_access_policy_is_added_when_the_vault_uses_policies() -> None:
    azure = world()
    azure.vaults[VAULT.host] = replace(azure.vaults[VAULT.host], rbac=False)
    report = await run_pass(azure)
    assert azure.writes == ["enable identity", "add policy"]
    assert "list roles" not in azure.calls
    assert report.healthy
    assert causes(report, "warning") == ["vault_policies"]
    azure.calls.clear()
    assert (await run_pass(azure)).plan == ()


async def test_removed_role_comes_back_when_the_account_is_looked_at_again() -> None:
    azure = world()
    await run_pass(azure)
    azure.assignments.clear()
    azure.calls.clear()
    report = await run_pass(azure)
    assert azure.writes == ["grant role"]
    assert report.healthy


async def test_key_value_is_nowhere_in_what_a_pass_leaves_behind() -> None:
    azure = world()
    report = await run_pass(azure)
    left = repr((report, azure.records, azure.changes, azure.calls, azure.entries))
    assert GOOD not in left
    assert GOOD not in repr(azure.secrets)


async def test_no_right_is_given_when_the_new_identity_shows_that_the_vault_is_anothers() -> None:
    azure = world()
    azure.vaults[VAULT.host] = replace(azure.vaults[VAULT.host], tenant_id=OLD_PRINCIPAL)
    report = await run_pass(azure)
    assert azure.writes == ["enable identity"]
    assert [item.state for item in report.steps] == ["done", "skipped", "done"]
    assert "vault_other_tenant" in causes(report, "blocked")
    assert (await run_pass(azure)).plan == ()


async def test_tags_that_somebody_set_during_the_pass_are_kept() -> None:
    known = account(system_identity=True, principal_id=PRINCIPAL, tenant_id=TENANT)
    azure = world(known)
    ports = azure.ports()
    prove = ports.prover.prove

    async def slowly(key: Secret) -> KeyOwner:
        azure.accounts[known.id.key] = replace(known, tags={"cost": "42", TAG_SECRET: "Theirs"})
        return await prove(key)

    ports.prover.prove = slowly  # type: ignore[method-assign]
    await run_pass(azure, ports=ports)
    assert azure.accounts[known.id.key].tags == {
        "cost": "42",
        TAG_SECRET: "Theirs",
        TAG_VAULT: VAULT.url,
    }


async def test_identities_and_tags_that_were_set_during_the_pass_are_kept_with_the_identity() -> (
    None
):
    azure = world(account())
    ports = azure.ports()
    prove = ports.prover.prove

    async def slowly(key: Secret) -> KeyOwner:
        azure.accounts[account_id().key] = account(
            user_identities=(USER_IDENTITY,), tags={"cost": "42"}
        )
        return await prove(key)

    ports.prover.prove = slowly  # type: ignore[method-assign]
    report = await run_pass(azure, ports=ports)
    found = azure.accounts[account_id().key]
    assert report.healthy
    assert found.user_identities == (USER_IDENTITY,)
    assert found.tags == {"cost": "42", TAG_SECRET: "wandb-api-key", TAG_VAULT: VAULT.url}
    assert azure.writes == ["enable identity", "grant role"]


async def test_runs_go_to_the_entity_as_w_and_b_spells_it_when_the_tag_spells_it_otherwise() -> (
    None
):
    azure = world(account(tags={TAG_ENTITY: "Team-B"}))
    report = await run_pass(azure)
    assert (report.healthy, report.entity) == (True, "team-b")


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({}, id="settings' vault and secret"),
        pytest.param(
            {"wandb-key-vault-url": OTHER_VAULT.url, "wandb-secret-name": "team-key"},
            id="the account's own",
        ),
    ],
)
async def test_portal_step_gives_the_link_and_the_values_to_enter(tags: dict[str, str]) -> None:
    azure = world(account(tags=tags))
    place = SecretRef(OTHER_VAULT, "team-key") if tags else PLACE
    azure.secrets[place] = [version("v1")]
    azure.vaults[OTHER_VAULT.host] = replace(azure.vaults[VAULT.host], address=OTHER_VAULT)
    using = settings(ALLOWED_VAULTS="kv-main,kv-other", ALLOWED_SECRETS="wandb-api-key,team-key")
    report = await run_pass(azure, using=using)
    (step,) = [item for item in report.findings if item.cause == "portal_update"]
    parts = urlsplit(step.evidence["link"])
    assert (parts.scheme, parts.netloc, parts.path) == (
        "https",
        "ai.azure.com",
        "/resource/overview",
    )
    assert parse_qs(parts.query) == {"wsid": [str(account_id())]}
    for shown in (step.evidence["link"], place.vault.url, place.name):
        assert shown in step.remedy


PLACE_OF_ITS_OWN = {"wandb-entity": "team-b", "wandb-project": "theirs"}


@pytest.mark.parametrize(
    ("right", "cause", "severity"),
    [
        ("write", "routing_ok", "ok"),
        ("new_project", "project_new", "ok"),
        ("unknown", "routing_ok", "ok"),
        ("read_only", "project_read_only", "blocked"),
        ("refused", "project_refused", "blocked"),
    ],
)
async def test_right_to_write_is_proved_where_the_accounts_tags_send_its_jobs(
    right: WriteRight, cause: str, severity: str
) -> None:
    azure = world(account(tags=PLACE_OF_ITS_OWN))
    azure.rights[GOOD, "team-b", "theirs"] = right
    report = await run_pass(azure)
    found = [item for item in report.findings if item.check == "routing"]
    assert [(item.cause, item.severity) for item in found] == [(cause, severity)]


async def test_right_to_write_is_asked_again_when_tags_or_key_change() -> None:
    azure = world()
    ports = azure.ports()
    azure.rights[GOOD, "team-b", "theirs"] = "read_only"
    azure.rights[BETTER, "team-b", "theirs"] = "write"
    assert causes(await run_pass(azure, ports=ports), "blocked") == []
    tags = azure.accounts[account_id().key].tags
    azure.accounts[account_id().key] = replace(
        azure.accounts[account_id().key], tags={**tags, **PLACE_OF_ITS_OWN}
    )
    assert causes(await run_pass(azure, ports=ports), "blocked") == ["project_read_only"]
    azure.secrets[PLACE].append(version("v2", BETTER))
    soon = NOW + timedelta(seconds=1)
    assert causes(await run_pass(azure, ports=ports, now=soon), "blocked") == []


async def test_team_that_w_and_b_does_not_list_is_fine_when_the_key_may_write_there() -> None:
    azure = world(account(tags={"wandb-entity": "team-z"}))
    assert causes(await run_pass(azure), "blocked") == ["entity_not_writable"]
    azure.rights[GOOD, "team-z", settings().wandb_project] = "write"
    assert causes(await run_pass(azure), "blocked") == []


ROUTES = (
    '[{"match": {"suffix": "exp-*", "account_tag": {"Team": "vis*"}}, "project": "experiments"},'
    ' {"match": {"account_tag": {"team": "text"}}, "project": "not this account\'s"},'
    ' {"match": {"model": "o4*"}, "entity": "team-b"}]'
)


async def test_slow_w_and_b_is_not_asked_about_every_place_of_many_rules() -> None:
    azure = world()
    rules = [{"match": {"suffix": f"s{number}"}, "project": f"p{number}"} for number in range(99)]
    using = settings(ROUTES=json.dumps(rules))
    await run_pass(azure, using=using)
    assert azure.calls.count("ask for write right") == 101  # once more when the key is taken on
    azure.calls.clear()
    azure.errors["ask for write right"] = [UnavailableError("slow")] * 99
    assert (await run_pass(azure, using=using)).healthy
    assert azure.calls.count("ask for write right") == 8


async def test_right_to_write_is_proved_wherever_a_rule_may_send_the_accounts_jobs() -> None:
    azure = world(account(tags={"Team": "vision"}))
    azure.rights[GOOD, "team-a", "experiments"] = "read_only"
    azure.rights[GOOD, "team-b", "azure-openai-fine-tuning"] = "new_project"
    report = await run_pass(azure, using=settings(ROUTES=ROUTES))
    found = [
        (item.cause, item.evidence.get("rule", ""))
        for item in report.findings
        if item.check == "routing"
    ]
    assert found == [("routing_ok", ""), ("project_read_only", "1"), ("project_new", "3")]
    assert report.tags["team"] == "vision"
