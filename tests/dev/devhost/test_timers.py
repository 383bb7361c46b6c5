"""Timer functions: ticks, one run at a time, past due, retries."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dev.devhost.conftest import RunningHost, StartHost

pytestmark = pytest.mark.asyncio(loop_scope="module")
NO_QUEUE = {"AzureWebJobs.on_message.Disabled": "1"}


async def test_timer_runs_by_itself_when_due(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, SAMPLE_SCHEDULE="*/1 * * * * *")
    await host.eventually(lambda: len(host.facts("on_timer")) >= 3)
    times = [fact["at"] for fact in host.facts("on_timer")]
    assert all(at % 1 < 0.5 for at in times), times
    assert not any(fact["past_due"] for fact in host.facts("on_timer"))


async def test_runs_do_not_overlap_when_one_outlasts_the_interval(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, SAMPLE_SCHEDULE="*/1 * * * * *", SAMPLE_TIMER_TAKES="1.4")
    await host.eventually(lambda: len(host.facts("on_timer_end")) >= 3)
    starts = [fact["at"] for fact in host.facts("on_timer")]
    ends = [fact["at"] for fact in host.facts("on_timer_end")]
    # A run that covered a tick is followed by one more at once.
    waits = [start - end for start, end in zip(starts[1:], ends, strict=False)]
    assert all(0 <= wait < 0.3 for wait in waits), waits


async def test_run_by_hand_overlaps_when_one_is_under_way(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, SAMPLE_SCHEDULE="0 0 0 1 1 *", SAMPLE_TIMER_TAKES="1")
    await asyncio.gather(run_now(host, "on_timer"), run_now(host, "on_timer"))
    starts, ends = ([fact["at"] for fact in host.facts(f)] for f in ("on_timer", "on_timer_end"))
    assert max(starts) < min(ends)


async def test_run_is_past_due_when_tick_was_missed(
    start_host: "StartHost", tmp_path: Path
) -> None:
    missed = datetime.now(UTC) - timedelta(hours=1)
    state = tmp_path / "timers" / "on_timer.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"next": missed.isoformat()}))
    host = await start_host(
        **NO_QUEUE, SAMPLE_SCHEDULE="0 0 0 1 1 *", extra=("--state-dir", str(state.parent))
    )
    await host.eventually(lambda: host.facts("on_timer_end"))
    assert [fact["past_due"] for fact in host.facts("on_timer")] == [True]
    upcoming = datetime.fromisoformat(json.loads(state.read_text())["next"])
    assert upcoming > datetime.now(UTC)


async def test_others_run_when_one_has_no_usable_schedule(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, SAMPLE_SCHEDULE="every now and then")
    status, answer = await run_now(host, "on_retried_timer")
    assert (status, answer["outcome"]) == (500, "failed")
    async with host.http.post(f"{host.url}/admin/functions/on_timer", json={}) as refused:
        assert refused.status == 404
    assert "on_timer is in error and does not run" in host.log()


async def test_retries_end_when_policy_is_exhausted(host: "RunningHost") -> None:
    status, answer = await run_now(host, "on_retried_timer")
    assert (status, answer["outcome"]) == (500, "failed")
    assert [fact["attempt"] for fact in host.facts("on_retried_timer")] == [0, 1, 2]


async def run_now(host: "RunningHost", name: str) -> tuple[int, dict[str, str]]:
    async with host.http.post(f"{host.url}/admin/functions/{name}?wait=1", json={}) as answer:
        return answer.status, await answer.json()
