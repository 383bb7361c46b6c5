"""The key in use when W&B refuses it, takes it back, or does not answer."""

from datetime import timedelta

import pytest

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.accounts.key import KeyOwner
from finetune_wandb.model.errors import DeniedError, UnavailableError
from tests.accounts.looking import PLACE, look, usable
from tests.fakes import (
    BETTER,
    GOOD,
    NOW,
    REVOKED,
    settings,
    version,
    world,
)


async def test_nothing_changes_when_w_and_b_does_not_answer_about_the_key_in_use() -> None:
    azure = world()
    await look(azure)
    before = dict(azure.records)
    azure.errors["prove key"] = [UnavailableError("no")]
    report = await look(azure)
    assert azure.records == before
    assert report.temporary
    assert usable(report)
    assert len(azure.changes) == 1


async def test_key_in_use_stays_and_blocks_when_w_and_b_no_longer_accepts_it() -> None:
    azure = world()
    await look(azure)
    del azure.owners[GOOD]
    report = await look(azure)
    assert azure.records[PLACE].version == "v1"
    assert not usable(report)
    assert [item.cause for item in azure.changes] == ["key_accepted", "key_rejected"]
    azure.owners[GOOD] = KeyOwner("team-a", ("team-a",))
    again = await look(azure)
    assert usable(again)
    assert again.record.version == "v1"
    assert azure.changes[-1].cause == "key_accepted"


async def test_key_in_use_is_known_as_refused_when_a_newer_version_is_bad_too() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", REVOKED))
    assert usable(await look(azure))
    del azure.owners[GOOD]
    report = await look(azure)
    record = azure.records[PLACE]
    assert (record.version, record.newest_version, record.refused_at) == ("v1", "v2", NOW)
    assert not usable(report)
    refused = [item for item in report.findings if item.severity == "blocked"]
    assert [item.evidence["version"] for item in refused] == ["v2", "v1"]
    assert [(item.detail["version"], item.cause) for item in azure.changes] == [
        ("v1", "key_accepted"),
        ("v2", "key_rejected"),
        ("v1", "key_rejected"),
    ]
    calls = len(azure.changes)
    await look(azure)
    assert len(azure.changes) == calls
    assert azure.records[PLACE] == record


async def test_refused_key_is_used_again_when_w_and_b_takes_it_back() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", REVOKED))
    owner = azure.owners.pop(GOOD)
    await look(azure)
    azure.owners[GOOD] = owner
    report = await look(azure)
    assert azure.records[PLACE].refused_at is None
    assert usable(report)
    assert (azure.changes[-1].detail["version"], azure.changes[-1].cause == "key_accepted") == (
        "v1",
        True,
    )


async def test_good_version_ends_a_refusal() -> None:
    azure = world()
    await look(azure)
    del azure.owners[GOOD]
    await look(azure)
    assert azure.records[PLACE].refused_at == NOW
    azure.secrets[PLACE].append(version("v2", BETTER))
    report = await look(azure)
    record = azure.records[PLACE]
    assert (record.version, record.refused_at) == ("v2", None)
    assert usable(report)


@pytest.mark.parametrize("call", ["prove key", "read version"])
async def test_nothing_is_said_against_the_key_in_use_when_nobody_answers(call: str) -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", "x"))
    azure.errors[call] = [UnavailableError("no")]
    report = await look(azure)
    assert azure.records[PLACE].refused_at is None
    assert usable(report)


async def test_expired_version_is_used_until_w_and_b_refuses_it() -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(hours=1))]
    await look(azure)
    azure.secrets[PLACE] = [version("v1", expires=NOW)]
    report = await look(azure)
    record = azure.records[PLACE]
    assert (record.version, record.refused_at, record.expires_at) == ("v1", None, NOW)
    assert [item.cause for item in report.findings] == ["secret_expired"]
    del azure.owners[GOOD]
    report = await look(azure)
    assert azure.records[PLACE].refused_at == NOW
    assert [item.cause for item in report.findings] == ["secret_expired", "key_rejected"]


async def test_disabled_newest_version_leaves_the_older_one_in_use() -> None:
    azure = world()
    await look(azure)
    azure.secrets[PLACE].append(version("v2", BETTER))
    # The real vault refuses to show a disabled version at all.
    azure.errors["read secret"] = [DeniedError("no", code="SecretDisabled")]
    report = await look(azure)
    assert azure.records[PLACE].version == "v1"
    assert usable(report)
    assert [item.cause for item in report.findings if item.severity == "warning"] == [
        "secret_disabled"
    ]


async def test_end_of_the_version_in_use_is_said_when_the_newest_is_bad() -> None:
    azure = world()
    azure.secrets[PLACE] = [version("v1", expires=NOW + timedelta(hours=5))]
    assert "secret_expires_soon" in {item.cause for item in (await look(azure)).findings}
    azure.secrets[PLACE].append(version("v2", REVOKED))
    later = await prove_newest(
        PLACE,
        ports=azure.ports(),
        settings=settings(),
        now=NOW + timedelta(hours=6),
        trigger="a test",
    )
    found = {item.cause: item.severity for item in later.findings}
    assert found == {"key_rejected": "warning", "secret_expired": "blocked"}


async def test_disabled_version_in_use_blocks_when_no_other_is_accepted() -> None:
    azure = world()
    await look(azure)
    disabled = DeniedError("no", code="SecretDisabled")
    azure.errors |= {"read secret": [disabled], "read version": [disabled]}
    report = await look(azure)
    assert azure.records[PLACE].version == "v1"
    assert not usable(report)
    assert [item.cause for item in report.findings if item.severity == "blocked"] == [
        "secret_disabled"
    ]


@pytest.mark.parametrize("newer_is_bad", [False, True])
async def test_version_in_use_is_stopped_when_a_person_disables_it_and_goes_on_when_enabled(
    newer_is_bad: bool,
) -> None:
    azure = world()
    await look(azure)
    if newer_is_bad:
        azure.secrets[PLACE].append(version("v2", REVOKED))
    call = "read version" if newer_is_bad else "read secret"
    disabled = DeniedError("no", code="SecretDisabled")
    azure.errors = {call: [disabled], "read version": [disabled]}
    report = await look(azure)
    assert azure.records[PLACE].disabled
    assert azure.records[PLACE].version == "v1"
    assert not usable(report)
    azure.errors.clear()
    await look(azure)
    assert not azure.records[PLACE].disabled


@pytest.mark.parametrize("code", ["ForbiddenByRbac", "ForbiddenByFirewall"])
async def test_version_in_use_goes_on_when_only_the_app_may_not_read_it(code: str) -> None:
    azure = world()
    await look(azure)
    refusal = DeniedError("no", code=code)
    azure.errors = {"read secret": [refusal], "read version": [refusal]}
    await look(azure)
    assert not azure.records[PLACE].disabled
