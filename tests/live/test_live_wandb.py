"""W&B's open points: what the public material does not say about the ingest protocol.

Those marked "told, not judged" assert nothing about W&B: the relay works either way, and the
verdict says which way it is.
"""

import asyncio
from typing import Any

import pytest

from finetune_wandb.model.secret import Secret
from tests.live.conftest import Verdict
from tests.live.places_wandb import TELEMETRY, Wandb
from tests.live.settings import Places, may_write, need

pytestmark = pytest.mark.live

_LAG_S = 6.0
"""The service's own counters lag by two to four seconds."""


def rows(first: int, count: int, loss: float = 0.5) -> list[dict[str, float]]:
    return [
        {"step": place, "train_loss": loss, "_step": place, "_timestamp": 1.7e9, "_runtime": 0.0}
        for place in range(first, first + count)
    ]


async def settled(wandb: Wandb, run: str, seconds: float = _LAG_S) -> dict[str, Any]:
    if not wandb.is_local:
        await asyncio.sleep(seconds)
    return await wandb.run(run)


async def test_viewer_answers_for_the_key(wandb: Wandb, verdict: Verdict) -> None:
    data = await wandb.graphql("query Viewer { viewer { id entity } }")
    verdict(f"default entity {data['viewer']['entity']}")
    assert data["viewer"]["entity"]


async def test_garbage_key_is_refused_with_401(wandb: Wandb, verdict: Verdict) -> None:
    body = {"query": "query Viewer { viewer { id entity } }"}
    for length in (40, 86):
        status, answer = await wandb.request("/graphql", body, Secret("x" * length))
        viewer = ((answer or {}).get("data") or {}).get("viewer")
        verdict(f"{length} characters: {status}, viewer {viewer}")
        assert status == 401 or viewer is None


async def test_same_rows_are_held_once_when_sent_twice(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    for _ in range(2):
        assert await wandb.stream(new_name, rows(0, 5), 0) == 200
    assert await wandb.stream(new_name, rows(5, 2), 5) == 200
    found = await settled(wandb, new_name)
    verdict(f"{found['historyLineCount']} lines after 5, the same 5, and 2")
    assert found["historyLineCount"] == 7


async def test_row_is_rewritten_when_its_offset_comes_again(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    """Told, not judged: the relay never sends other bytes to an offset."""
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    await wandb.stream(new_name, rows(0, 3), 0)
    await wandb.stream(new_name, rows(2, 1, loss=0.25), 2)
    found = await settled(wandb, new_name)
    verdict(f"{found['historyLineCount']} lines, the last is {found['rows'][-1:]}")


async def test_gap_is_kept_or_closed_when_offsets_jump(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    """Told, not judged: the relay leaves no gaps."""
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    await wandb.stream(new_name, rows(0, 2), 0)
    await wandb.stream(new_name, rows(5, 1), 5)
    found = await settled(wandb, new_name)
    verdict(f"{found['historyLineCount']} lines after 2 at offset 0 and 1 at offset 5")


async def test_config_is_replaced_or_merged_by_a_second_upsert(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    """Told, not judged: the relay always sends the whole config."""
    may_write()
    await wandb.upsert(new_name, {"first": {"value": 1}, **TELEMETRY})
    await wandb.upsert(new_name, {"second": {"value": 2}, **TELEMETRY})
    found = await settled(wandb, new_name)
    verdict("merged" if "first" in found["config"] else "replaced")
    assert "second" in found["config"]


async def test_pending_run_stays_pending_when_nothing_is_sent(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    await wandb.upsert(new_name, TELEMETRY, state="pending")
    assert (await settled(wandb, new_name))["state"] == "pending"
    need("LIVE_SLOW")
    await asyncio.sleep(420)
    state = (await wandb.run(new_name))["state"]
    verdict(f"{state} after seven minutes")
    assert state == "pending"


async def test_silent_run_is_called_crashed_after_minutes_and_revived_by_a_post(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    need("LIVE_SLOW")
    await wandb.upsert(new_name, TELEMETRY)
    await wandb.stream(new_name, rows(0, 1), 0)
    await asyncio.sleep(420)
    silent = (await wandb.run(new_name))["state"]
    await wandb.stream(new_name, [], 0)
    revived = (await settled(wandb, new_name))["state"]
    verdict(f"{silent} after seven silent minutes, {revived} after a heartbeat")
    assert (silent, revived) == ("crashed", "running")


async def test_late_post_revives_a_finished_run_unless_it_says_the_end_again(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    await wandb.stream(new_name, rows(0, 1), 0, complete=True, exitcode=0)
    ended = (await settled(wandb, new_name))["state"]
    await wandb.stream(new_name, rows(1, 1), 1)
    revived = (await settled(wandb, new_name))["state"]
    await wandb.stream(new_name, rows(2, 1), 2, complete=True, exitcode=0)
    again = (await settled(wandb, new_name))["state"]
    verdict(f"{ended}; {revived} after a late row; {again} after one with the end")
    assert (ended, again) == ("finished", "finished")


async def test_run_id_of_64_characters_is_taken(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    name = new_name.ljust(64, "x")
    await wandb.upsert(name, TELEMETRY)
    assert await wandb.stream(name, rows(0, 1), 0) == 200
    found = await settled(wandb, name)
    verdict("as it was given" if found["name"] == name else f"became {found['name']}")
    assert found["name"] == name


async def test_whole_number_steps_come_back_whole(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    await wandb.stream(new_name, rows(0, 2), 0)
    found = await settled(wandb, new_name)
    steps = [row["_step"] for row in found["rows"]]
    verdict(f"_step {steps}")
    assert all(isinstance(step, int) for step in steps)


async def test_small_telemetry_object_makes_a_run_resumable(
    wandb: Wandb, new_name: str, verdict: Verdict
) -> None:
    may_write()
    await wandb.upsert(new_name, TELEMETRY)
    found = await settled(wandb, new_name)
    verdict(f"wandbConfig is {found['wandbConfig']}")
    assert '"t"' in (found["wandbConfig"] or "")


async def test_x_axis_is_stored_for_the_charts(
    wandb: Wandb, new_name: str, settings: Places, verdict: Verdict
) -> None:
    may_write()
    axis = [{"2": "*", "5": 2, "6": [1], "7": []}, {"1": "step", "6": [], "7": []}]
    telemetry = TELEMETRY["_wandb"]["value"]
    await wandb.upsert(new_name, {"_wandb": {"value": {**telemetry, "m": axis}}})
    await wandb.stream(new_name, rows(0, 3), 0)
    found = await settled(wandb, new_name)
    stored = found["config"].get("_wandb", {}).get("value", {}).get("m")
    verdict("stored; look at a run of the relay: its charts must have `step` as their x axis")
    assert stored == axis
