"""Which version is in use after a look at the newest, and what the audit says."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.accounts.key import KeyOwner, KeyRecord, WriteRight
from finetune_wandb.model.errors import ConflictError, DeniedError, TemporaryError, UnavailableError
from finetune_wandb.model.ids import parse_vault_url
from finetune_wandb.model.secret import SecretRef
from tests.accounts.looking import PLACE, look, usable
from tests.fakes import (
    BETTER,
    GOOD,
    NOW,
    OTHER_VAULT,
    REVOKED,
    STRANGER,
    VAULT,
    FakeKeyTable,
    settings,
    version,
    world,
)


async def test_first_version_is_taken_into_use_when_accepted() -> None:
    azure = world()
    report = await look(azure)
    record = azure.records[PLACE]
    assert (record.version, record.entity, record.accepted_at) == ("v1", "team-a", NOW)
    assert record.trigger == "a test"
    assert record.expires_at == NOW + timedelta(days=90)
    assert report.record == record
    assert usable(report)
    assert [
        (item.detail["version"], item.cause == "key_accepted", item.trigger)
        for item in azure.changes
    ] == [("v1", True, "a test")]


async def test_nothing_is_stored_when_the_version_in_use_is_newest_and_accepted() -> None:
    azure = world()
    await look(azure)
    azure.calls.clear()
    report = await look(azure)
    assert azure.calls == ["read key record", "read secret", "prove key"]
    assert len(azure.changes) == 1
    assert report.record.version == "v1"


async def test_better_version_replaces_the_one_in_use() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    report = await look(azure)
    assert azure.records[PLACE].version == "v2"
    assert report.record.version == "v2"
    assert [item.detail["version"] for item in azure.changes] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("newest", "cause"),
    [
        pytest.param(version("v2", REVOKED), "key_rejected", id="revoked"),
        pytest.param(version("v2", "x"), "key_malformed", id="malformed"),
        pytest.param(version("v2", STRANGER), "key_wrong_entity", id="other entity"),
        pytest.param(version("v2", BETTER, enabled=False), "secret_disabled", id="disabled"),
        pytest.param(version("v2", BETTER, expires=NOW), "secret_expired", id="expired"),
        pytest.param(
            version("v2", BETTER, not_before=NOW + timedelta(days=1)),
            "secret_not_yet_valid",
            id="not yet valid",
        ),
    ],
)
async def test_bad_version_is_noted_once_and_the_good_one_stays(newest, cause: str) -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(newest)
    for _ in range(3):
        report = await look(azure)
    assert azure.records[PLACE].version == "v1"
    assert usable(report)
    assert [item.cause for item in azure.changes] == ["key_accepted", cause]
    assert azure.changes[-1].cause != "key_accepted"
    found = [item for item in report.findings if item.cause == cause]
    assert [item.severity for item in found] == ["warning"]


async def test_nothing_changes_when_the_vault_does_not_answer() -> None:
    azure = world()
    await look(azure)
    before = dict(azure.records)
    azure.secrets[PLACE].append(version("v2", BETTER))
    azure.errors["read secret"] = [UnavailableError("no", retry_after=33.0)]
    report = await look(azure)
    assert azure.records == before
    assert report.temporary
    assert report.retry_after_s == 33.0
    assert usable(report)
    assert len(azure.changes) == 1
    assert (await look(azure)).record.version == "v2"


async def test_new_version_is_noted_as_unproved_while_w_and_b_does_not_answer() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    azure.errors["prove key"] = [UnavailableError("no", retry_after=33.0) for _ in range(2)]
    for _ in range(2):
        report = await look(azure)
    record = azure.records[PLACE]
    assert (record.version, record.newest_version, record.newest_cause) == (
        "v1",
        "v2",
        "key_unknown",
    )
    assert report.temporary
    assert report.retry_after_s == 33.0
    assert usable(report)
    assert (await look(azure)).record.version == "v2"
    assert [(item.detail["version"], item.cause) for item in azure.changes] == [
        ("v1", "key_accepted"),
        ("v2", "key_unknown"),
        ("v2", "key_accepted"),
    ]


async def test_entity_in_use_stays_when_the_new_key_belongs_to_it_too() -> None:
    azure = world()
    await look(azure)
    azure.owners[BETTER] = KeyOwner("service-user", ("service-user", "Team-A"))
    azure.secrets[PLACE].append(version("v2", BETTER))
    report = await look(azure)
    assert (report.record.version, report.record.entity) == ("v2", "team-a")


async def test_other_entity_is_taken_when_the_settings_name_it() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", STRANGER))
    report = await look(azure, settings(WANDB_ENTITY="elsewhere"))
    assert (report.record.version, report.record.entity) == ("v2", "elsewhere")


async def test_entity_is_spelled_as_w_and_b_does_when_the_settings_spell_it_otherwise() -> None:
    azure = world()
    report = await look(azure, settings(WANDB_ENTITY="Team-B"))
    assert report.record.entity == "team-b"


async def test_key_without_any_entity_is_not_taken() -> None:
    azure = world()
    azure.owners[GOOD] = KeyOwner("", ())
    report = await look(azure)
    assert [item.cause for item in report.findings if item.check == "key"] == ["key_wrong_entity"]
    assert not report.record.version


@pytest.mark.parametrize(
    ("vault", "secret", "cause"),
    [
        (OTHER_VAULT, "wandb-api-key", "vault_not_allowed"),
        (parse_vault_url("https://kv-main.vault.azure.cn"), "wandb-api-key", "vault_not_allowed"),
        (VAULT, "db-password", "secret_not_allowed"),
    ],
)
async def test_nothing_is_read_when_vault_or_secret_is_not_allowed(vault, secret, cause) -> None:
    azure = world()
    report = await prove_newest(
        SecretRef(vault, secret),
        ports=azure.ports(),
        settings=settings(),
        now=NOW,
        trigger="an event",
    )
    assert azure.calls == []
    assert [item.cause for item in report.findings] == [cause]
    assert not usable(report)


@pytest.mark.parametrize("right", ["write", "new_project", "unknown"])
async def test_version_is_taken_when_it_may_write_as_far_as_w_and_b_tells(
    right: WriteRight,
) -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    azure.rights[BETTER, "team-a", settings().wandb_project] = right
    assert (await look(azure)).record.version == "v2"


@pytest.mark.parametrize("right", ["read_only", "refused"])
async def test_version_is_not_taken_when_it_may_not_write_to_the_project(right: WriteRight) -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    azure.rights[BETTER, "team-a", settings().wandb_project] = right
    report = await look(azure)
    assert (report.record.version, report.record.newest_cause) == ("v1", f"key_{right}")
    azure.rights[BETTER, "team-a", settings().wandb_project] = "write"
    assert (await look(azure)).record.version == "v2"


async def test_key_is_taken_for_a_team_that_w_and_b_does_not_list_when_it_may_write_there() -> None:
    azure = world()
    azure.rights[STRANGER, "team-a", settings().wandb_project] = "write"
    azure.secrets[PLACE] = [version("v1", STRANGER)]
    report = await look(azure, settings(WANDB_ENTITY="team-a"))
    assert (report.record.version, report.record.entity) == ("v1", "team-a")


async def test_version_is_not_taken_when_nobody_can_say_whether_it_may_write() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    azure.errors["ask for write right"] = [UnavailableError("no")]
    report = await look(azure)
    assert report.temporary
    assert report.record.version == "v1"


@pytest.mark.parametrize(
    ("days", "within"), [(31, ""), (30, "30 days"), (7, "7 days"), (1, "1 days"), (0.5, "1 days")]
)
async def test_near_end_is_a_finding_at_thirty_seven_and_one_days(days: float, within: str) -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(days=days))]
    report = await look(azure)
    found = [item.evidence["within"] for item in report.findings if "within" in item.evidence]
    assert found == ([within] if within else [])
    assert usable(report)


async def test_new_end_of_the_version_in_use_is_noticed_beside_a_bad_newer_one() -> None:
    azure = world()
    await look(azure)
    soon = NOW + timedelta(days=2)
    azure.secrets[PLACE] = [version("v1", expires=soon), version("v2", REVOKED)]
    report = await look(azure)
    assert azure.records[PLACE].expires_at == soon
    assert "secret_expires_soon" in {item.cause for item in report.findings}


class _Raced(FakeKeyTable):
    """Another process proves a newer version between this one's look and its writing."""

    async def write(self, record: KeyRecord) -> KeyRecord:
        if not self.world.records.get(PLACE):
            self.world.records[PLACE] = replace(record, version="v2", newest_version="v2", etag="7")
            self.world.secrets[PLACE].append(version("v2", BETTER))
        return await super().write(record)


async def test_slower_writer_does_not_undo_a_faster_one() -> None:
    azure = world()
    ports = replace(azure.ports(), keys=_Raced(azure))
    report = await prove_newest(PLACE, ports=ports, settings=settings(), now=NOW, trigger="a race")
    assert azure.records[PLACE].version == "v2"
    assert report.record.version == "v2"
    assert report.newest_version == "v2"


async def test_conflict_is_temporary_when_others_never_stop_writing() -> None:
    azure = world()
    azure.errors["store key record"] = [ConflictError("no") for _ in range(9)]
    with pytest.raises(TemporaryError):
        await look(azure)


async def test_app_without_rights_is_noted_once() -> None:
    azure = world()
    azure.errors["read secret"] = [DeniedError("no", code="ForbiddenByRbac") for _ in range(3)]
    for _ in range(3):
        await look(azure)
    assert [item.cause for item in azure.changes] == ["secret_forbidden_by_rbac"]
