"""Rotation with a minted key: when, in which order, and what is left wherever it is interrupted."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.keys.in_use import prove_newest
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    RejectedError,
    UnavailableError,
)
from tests.accounts.minting import (
    FIRST,
    OWNER,
    PLACE,
    Killed,
    causes,
    look,
    stage_with_a_key,
    turn,
    using,
)
from tests.fakes import BETTER, GOOD, NOW, REVOKED, settings, version


async def test_key_is_made_proved_stored_and_switched_when_the_old_one_nears_its_end() -> None:
    stage = await stage_with_a_key()
    mint = await turn(stage)
    assert mint is not None
    assert stage.in_use == FIRST
    assert mint.state == "switched"
    assert (mint.old_version, mint.old_key_id, mint.key_id) == ("v1", "id-0", "id-1")
    stored = stage.azure.secrets[PLACE][-1]
    assert stored.expires == stage.now + timedelta(days=90)
    assert stored.tags == {"wandb-key-id": "id-1", "wandb-key-name": mint.name}
    # Both keys work meanwhile.
    assert set(stage.listed) == {"id-0", "id-1"}
    assert causes(stage) == ["rotation_grace"]
    order = [name for name in stage.calls if name in ("generate", "store secret")]
    assert order == ["generate", "store secret"]
    assert [item.trigger for item in stage.azure.changes] == ["a test", "minted"]


@pytest.mark.parametrize(
    ("days", "more", "expected"),
    [
        (15, {}, False),
        (13.9, {}, True),
        (25, {"ROTATION_BEFORE_DAYS": "30"}, True),
        (25, {"ROTATION_BEFORE_DAYS": "30", "ROTATION_LIFETIME_DAYS": "40"}, False),
        (-1, {}, True),
    ],
)
async def test_rotation_is_due_when_the_end_is_near(
    days: float, more: dict[str, str], expected: bool
) -> None:
    stage = await stage_with_a_key(days=20 if days < 0 else days)
    if days < 0:
        stage.now += timedelta(days=21)
    assert (await turn(stage, **more) is not None) is expected


async def test_nothing_is_made_when_the_key_has_no_end_or_is_refused() -> None:
    stage = await stage_with_a_key()
    stage.azure.secrets[PLACE][0] = version("v1", expires=None)
    await look(stage)
    assert await turn(stage) is None
    stage = await stage_with_a_key()
    del stage.azure.owners[GOOD]
    await look(stage)
    assert await turn(stage) is None
    assert stage.calls == []


async def calls_of_a_whole_rotation() -> int:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    return len(stage.calls)


@pytest.mark.parametrize("hidden", [False, True], ids=["listed", "hidden"])
@pytest.mark.parametrize("after", [False, True], ids=["before it took effect", "after"])
async def test_rotation_is_finished_and_no_key_is_lost_wherever_the_process_dies(
    after: bool, hidden: bool
) -> None:
    for number in range(1, await calls_of_a_whole_rotation() + 1):
        stage = await stage_with_a_key(hidden=hidden)
        stage.die_at, stage.after = number, after
        for hours in (0, 80):
            stage.now += timedelta(hours=hours)
            try:
                await turn(stage)
            except Killed:
                # The key in use works at this very moment.
                assert stage.in_use in stage.azure.owners
                stage.now += timedelta(minutes=11)
                await turn(stage)
        stage.now += timedelta(hours=80)
        await turn(stage)
        assert stage.azure.records[PLACE].version != "v1", number
        assert stage.in_use in stage.azure.owners, number
        assert stage.mint is not None
        assert stage.mint.state == "idle", number
        names = {text for text, value in stage.listed.values() if value != stage.in_use}
        if hidden:
            # W&B shows nothing: whatever is left is named to people.
            assert names - {""} <= set(stage.mint.lost), (number, stage.calls)
        else:
            assert names == set(), (number, stage.calls)


async def test_second_process_leaves_a_rotation_alone_while_one_is_at_it() -> None:
    stage = await stage_with_a_key()
    stage.die_at = 4
    with pytest.raises(Killed):
        await turn(stage)
    stage.now += timedelta(minutes=9)
    calls = len(stage.calls)
    assert await turn(stage) is None
    assert len(stage.calls) == calls


async def test_loser_of_a_race_deletes_the_key_it_has_made() -> None:
    stage = await stage_with_a_key()

    def overtake() -> None:
        assert stage.mint is not None
        stage.mint = replace(stage.mint, cause="mint_unavailable")

    stage.while_made = overtake
    assert await turn(stage) is None
    assert set(stage.listed) == {"id-0"}
    assert stage.in_use == GOOD


@pytest.mark.parametrize(
    ("call", "error", "cause"),
    [
        ("generate", DeniedError("no", code="403"), "mint_refused"),
        ("generate", RejectedError("too many keys"), "mint_refused"),
        ("generate", UnavailableError("no"), "mint_unavailable"),
        ("store secret", DeniedError("no", code="ForbiddenByPolicy"), "mint_store_refused"),
        ("store secret", RejectedError("no", code="BadParameter"), "mint_store_refused"),
        ("store secret", ConflictError("a deleted secret has the name"), "mint_store_refused"),
        ("store secret", DeniedError("no", code="ForbiddenByRbac"), "mint_store_denied"),
        ("store secret", UnavailableError("no"), "mint_unavailable"),
    ],
)
async def test_old_key_stays_and_the_reason_is_told_when_a_step_fails(
    call: str, error: AppError, cause: str
) -> None:
    stage = await stage_with_a_key()
    stage.errors[call] = [error]
    await turn(stage)
    assert stage.in_use == GOOD
    assert causes(stage) == [cause]
    stage.now += timedelta(days=1)
    await turn(stage)
    assert stage.azure.records[PLACE].version == "v2"
    assert len(stage.listed) == 2, "the old one and the one in use"


async def test_refusal_is_not_tried_again_the_same_day() -> None:
    stage = await stage_with_a_key()
    stage.errors["store secret"] = [DeniedError("no", code="ForbiddenByRbac")]
    await turn(stage)
    assert set(stage.listed) == {"id-0"}
    stage.now += timedelta(hours=23)
    assert await turn(stage) is None


@pytest.mark.parametrize("call", ["generate", "store secret", "delete key"])
async def test_rotation_goes_on_when_an_answer_was_lost(call: str) -> None:
    stage = await stage_with_a_key()
    stage.lost[call] = UnavailableError("the answer was lost")
    for hours in (0, 1, 80, 1, 1):
        stage.now += timedelta(hours=hours)
        await turn(stage)
    assert causes(stage) == ["rotation_idle"]
    assert [value for _, value in stage.listed.values()] == [stage.in_use]
    assert stage.in_use != GOOD


async def test_new_key_is_waited_for_when_w_and_b_does_not_know_it_at_once() -> None:
    stage = await stage_with_a_key(late=2)
    await turn(stage)
    assert stage.in_use == FIRST


async def test_new_key_is_deleted_when_w_and_b_never_accepts_it() -> None:
    stage = await stage_with_a_key(late=99)
    await turn(stage)
    assert causes(stage) == ["mint_not_accepted"]
    assert set(stage.listed) == {"id-0"}
    assert len(stage.azure.secrets[PLACE]) == 1


async def test_new_key_is_not_stored_when_it_may_only_read() -> None:
    stage = await stage_with_a_key()
    stage.azure.rights[FIRST, "team-a", settings().wandb_project] = "read_only"
    await turn(stage)
    assert causes(stage) == ["mint_not_accepted"]
    assert set(stage.listed) == {"id-0"}


async def test_person_wins_when_they_rotate_at_the_same_time() -> None:
    stage = await stage_with_a_key()
    stage.azure.owners[BETTER] = OWNER
    stage.listed["id-9"] = ("by hand", BETTER)
    stage.die_at, stage.after = 6, True
    with pytest.raises(Killed):
        await turn(stage)
    assert stage.mint is not None
    assert stage.mint.state == "stored"
    stage.azure.secrets[PLACE].append(version("v9", BETTER))
    stage.now += timedelta(minutes=11)
    await turn(stage)
    assert stage.in_use == BETTER
    assert causes(stage) == ["mint_overtaken"]
    assert set(stage.listed) == {"id-0", "id-9"}


async def test_stored_key_waits_when_a_newer_version_is_bad() -> None:
    stage = await stage_with_a_key()
    stage.die_at, stage.after = 6, True
    with pytest.raises(Killed):
        await turn(stage)
    stage.azure.secrets[PLACE].append(version("v9", REVOKED))
    stage.now += timedelta(minutes=11)
    await turn(stage)
    assert causes(stage) == ["mint_waits"]
    assert stage.in_use == GOOD
    stage.azure.secrets[PLACE].pop()
    await turn(stage)
    assert stage.in_use == FIRST


async def test_version_of_a_person_is_not_hidden_when_it_came_while_a_key_was_made() -> None:
    stage = await stage_with_a_key()
    stage.azure.owners[BETTER] = OWNER
    stage.while_made = lambda: stage.azure.secrets[PLACE].append(version("v9", BETTER))
    await turn(stage)
    assert [one.version for one in stage.azure.secrets[PLACE]] == ["v1", "v9"]
    assert causes(stage) == ["mint_overtaken"]
    assert set(stage.listed) == {"id-0"}
    await look(stage)
    assert stage.in_use == BETTER


async def test_no_key_is_created_or_deleted_while_the_app_only_observes() -> None:
    stage = await stage_with_a_key()
    assert await turn(stage, APPLY_MODE="observe") is None
    await turn(stage)
    stage.now += timedelta(hours=80)
    stage.calls.clear()
    assert await turn(stage, APPLY_MODE="observe") is None
    assert stage.calls == []


async def test_no_value_is_in_the_row_or_the_audit() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    said = repr(stage.mint) + repr(stage.azure.changes) + repr(stage.azure.records)
    assert GOOD not in said
    assert FIRST not in said


@pytest.mark.parametrize(
    ("used", "grace"), [(True, "72"), (False, "1823")], ids=["a job uses it", "in its grace"]
)
async def test_next_rotation_begins_when_it_is_due_before_the_old_key_can_go(
    used: bool, grace: str
) -> None:
    stage = await stage_with_a_key(old_is_used=used)
    await turn(stage, ROTATION_GRACE_HOURS=grace)
    assert stage.in_use == FIRST
    # A person cuts the new key's time short.
    stored = stage.azure.secrets[PLACE]
    stored[-1] = replace(stored[-1], expires=NOW + timedelta(days=25))
    stage.now += timedelta(days=20)
    await look(stage)
    await turn(stage, ROTATION_GRACE_HOURS=grace)
    assert causes(stage) == ["old_key_left"]
    assert (stage.azure.changes[-1].detail["version"], stage.azure.changes[-1].cause) == (
        "v1",
        "old_key_left",
    )
    await turn(stage, ROTATION_GRACE_HOURS=grace)
    assert stage.in_use == f"wandb_v1_{2:060d}"
    assert "id-0" in stage.listed, "it stays for a person to delete"


async def test_limit_is_named_when_the_owner_has_all_the_keys_that_w_and_b_allows() -> None:
    stage = await stage_with_a_key()
    stage.listed |= {f"id-x{number}": ("", f"other {number}") for number in range(99)}
    stage.errors["generate"] = [RejectedError("no", code="graphql")]
    await turn(stage)
    assert causes(stage) == ["mint_limit"]


async def test_observed_rotation_is_a_finding_and_makes_no_key() -> None:
    stage = await stage_with_a_key()
    assert await turn(stage, APPLY_MODE="observe") is None
    report = await prove_newest(
        PLACE,
        ports=stage.azure.ports(),
        settings=using(APPLY_MODE="observe"),
        now=stage.now,
        trigger="a test",
    )
    assert "key_rotation_observed" in {item.cause for item in report.findings}
    assert stage.made == 0
