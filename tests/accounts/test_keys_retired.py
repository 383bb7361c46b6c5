"""The key before the newest is deleted when nothing needs it any more, and left otherwise."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.model.secret import SecretRef
from tests.accounts.minting import (
    FIRST,
    OWNER,
    PLACE,
    causes,
    look,
    stage_with_a_key,
    turn,
)
from tests.fakes import BETTER, GOOD, NOW, OTHER_VAULT, version


async def test_old_key_is_deleted_only_when_the_grace_period_is_over() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.now += timedelta(hours=71)
    assert await turn(stage) is None
    assert "id-0" in stage.listed
    stage.now += timedelta(hours=1)
    await turn(stage)
    assert set(stage.listed) == {"id-1"}
    assert causes(stage) == ["rotation_idle"]
    assert (stage.azure.changes[-1].detail["version"], stage.azure.changes[-1].cause) == (
        "v1",
        "old_key_deleted",
    )
    # What was made here is known by its tag when its own turn comes.
    stage.now += timedelta(days=80)
    mint = await turn(stage)
    assert mint is not None
    assert mint.old_key_id == "id-1"
    stage.now += timedelta(hours=72)
    await turn(stage)
    assert set(stage.listed) == {"id-2"}
    assert stage.in_use == f"wandb_v1_{2:060d}"


async def test_minted_key_goes_too_when_a_person_rotated_within_the_grace_period() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.azure.owners[BETTER] = OWNER
    stage.listed["id-9"] = ("by hand", BETTER)
    stage.azure.secrets[PLACE].append(version("v9", BETTER))
    stage.now = NOW + timedelta(hours=2)
    await look(stage)
    stage.now += timedelta(hours=5)
    await look(stage)
    stage.now += timedelta(hours=73)
    await turn(stage)
    assert set(stage.listed) == {"id-9"}
    # The app's key was handed out until the person's took its place.
    assert stage.asked_until == NOW + timedelta(hours=2)


async def test_old_key_is_left_to_people_when_a_person_created_it() -> None:
    stage = await stage_with_a_key(by_hand=True)
    await turn(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert causes(stage) == ["old_key_left"]
    assert set(stage.listed) == {"id-0", "id-1"}


async def test_old_key_is_left_when_another_secret_holds_the_same_value() -> None:
    stage = await stage_with_a_key()
    other = SecretRef(OTHER_VAULT, "team-key")
    stage.azure.secrets[other] = [version("w1", GOOD)]
    stage.azure.records[other] = replace(stage.azure.records[PLACE], secret=other, version="w1")
    await turn(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert causes(stage) == ["old_key_left"]
    assert "id-0" in stage.listed


async def test_old_key_is_left_when_another_key_in_use_cannot_be_read() -> None:
    stage = await stage_with_a_key()
    other = SecretRef(OTHER_VAULT, "team-key")
    stage.azure.records[other] = replace(stage.azure.records[PLACE], secret=other, version="w1")
    await turn(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert causes(stage) == ["old_key_left"]
    assert "id-0" in stage.listed


@pytest.mark.parametrize("value", [GOOD, FIRST], ids=["the old one", "the app's without its tag"])
async def test_key_stays_when_its_value_was_stored_again(value: str) -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.azure.secrets[PLACE].append(version("v3", value))
    await look(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert stage.in_use == value
    assert value in stage.azure.owners
    assert causes(stage) == ["old_key_left"]


async def test_old_key_is_not_called_deleted_when_w_and_b_accepts_it_still() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.now += timedelta(hours=80)
    del stage.listed["id-0"]
    await turn(stage)
    assert causes(stage) == ["old_key_left"]
    assert stage.azure.changes[-1].cause == "old_key_left"


async def test_old_key_stays_while_something_uses_it() -> None:
    stage = await stage_with_a_key(old_is_used=True)
    await turn(stage)
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert causes(stage) == ["old_key_used"]
    assert "id-0" in stage.listed
    stage.old_is_used = False
    stage.now += timedelta(hours=1)
    await turn(stage)
    assert "id-0" not in stage.listed


async def test_old_key_is_left_and_rotation_goes_on_when_its_use_never_ends() -> None:
    stage = await stage_with_a_key(old_is_used=True)
    await turn(stage)
    stage.now += timedelta(days=30)
    await turn(stage)
    assert causes(stage) == ["old_key_left"]
    assert "id-0" in stage.listed
    # The next key is made in its turn; the one that was left is not looked at again.
    stage.now += timedelta(days=50)
    mint = await turn(stage)
    assert mint is not None
    assert (mint.state, stage.made) == ("switched", 2)


async def test_old_key_stays_when_the_new_one_is_refused() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    del stage.azure.owners[FIRST]
    stage.now += timedelta(hours=80)
    await turn(stage)
    assert "id-0" in stage.listed
