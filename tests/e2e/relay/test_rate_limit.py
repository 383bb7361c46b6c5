"""W&B's limits: two requests a second and run, and the pauses that its answers ask for."""

import time
from typing import Any

import pytest

from finetune_wandb.clients.wandb.sink import Pacing
from tests.e2e.relay.stage import START, Stage, job, metric, values


async def rated(stage: Stage, rate: float) -> None:
    session = stage.transport.session()
    body = {"file_stream_per_run_per_s": rate}
    async with session.put(f"{stage.url}/_sandbox/wandb/settings", json=body) as answer:
        assert answer.status == 200
    # The limit is about real time.
    stage.hub.clock = time.time


async def fault(stage: Stage, **more: Any) -> None:
    body = {"service": "wandb", "path_contains": "file_stream", **more}
    async with stage.transport.session().post(f"{stage.url}/_sandbox/faults", json=body) as answer:
        assert answer.status < 300


def statuses(stage: Stage) -> dict[int, int]:
    found: dict[int, int] = {}
    for (service, _, path, status), count in stage.world.requests.items():
        if service == "wandb" and path.endswith("file_stream"):
            found[status] = found.get(status, 0) + count
    return found


async def test_no_request_is_refused_when_a_large_job_is_sent_at_the_limit(
    on_stage: Stage,
) -> None:
    on_stage.ports.sink._pacing = Pacing()  # type: ignore[attr-defined]
    await rated(on_stage, 2)
    # Some 4 MB of rows: at least four requests to one run.
    wide = {f"metric_{n:04}": n / 7 for n in range(2000)}
    events = [metric(step, **wide) for step in range(1, 81)]
    await on_stage.put(job(status="succeeded", finished_at=int(START) + 9), events=events)
    await on_stage.tick()
    run = on_stage.run("ftjob-1")
    assert len(values(run, "metric_1999")) == 80
    assert run["state"] == "finished"
    found = statuses(on_stage)
    assert set(found) == {200}, found
    assert found[200] >= 4


async def test_other_runs_do_not_wait_when_one_is_held_back() -> None:
    pacing = Pacing()
    for _ in range(2):
        await pacing.turn("e/p/one", "e/p")
    started = time.monotonic()
    await pacing.turn("e/p/two", "e/p")
    assert time.monotonic() - started < 0.3
    await pacing.turn("e/p/one", "e/p")
    assert time.monotonic() - started > 0.7


async def test_project_waits_when_its_share_is_used_up() -> None:
    pacing = Pacing()
    pacing.heed("e/p", {"ratelimit-remaining": "0", "ratelimit-reset": "0.5"})
    started = time.monotonic()
    await pacing.turn("e/other/run", "e/other")
    assert time.monotonic() - started < 0.3
    await pacing.turn("e/p/run", "e/p")
    assert time.monotonic() - started > 0.4


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-remaining": "7", "ratelimit-reset": "60"},
        {"ratelimit-remaining": "0"},
        {"ratelimit-remaining": "none", "ratelimit-reset": "soon"},
    ],
)
async def test_nothing_waits_when_an_answer_asks_for_nothing(headers: dict[str, str]) -> None:
    pacing = Pacing()
    pacing.heed("e/p", headers)
    started = time.monotonic()
    await pacing.turn("e/p/run", "e/p")
    assert time.monotonic() - started < 0.3


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "1"}, {"RateLimit-Remaining": "0", "RateLimit-Reset": "1"}],
    ids=["retry-after", "ratelimit-reset"],
)
async def test_request_is_repeated_after_the_pause_when_it_is_short(
    on_stage: Stage, headers: dict[str, str]
) -> None:
    await fault(on_stage, times=1, action={"status": 429, "headers": headers, "body": {}})
    await on_stage.put(job(), events=[metric(1)])
    started = time.monotonic()
    (outcome,) = (await on_stage.tick()).values()
    assert 0.9 < time.monotonic() - started < 6
    assert outcome.error == ""
    assert statuses(on_stage) == {429: 1, 200: 1}


async def test_job_waits_for_a_later_tick_when_the_pause_is_long(on_stage: Stage) -> None:
    headers = {"Retry-After": "600"}
    await fault(on_stage, times=1, action={"status": 429, "headers": headers, "body": {}})
    await on_stage.put(job(), events=[metric(1)])
    (outcome,) = (await on_stage.tick()).values()
    assert outcome.temporary
    cursor = on_stage.cursor("ftjob-1")
    assert cursor.retry_at == on_stage.now + 600
    assert cursor.outbox
    # The finder leaves the job alone until then; what was claimed is sent after it.
    (seen,) = await on_stage.cursors.seen(on_stage.account.key)
    assert seen.retry_at == cursor.retry_at
    await on_stage.tick(601)
    assert values(on_stage.run("ftjob-1"), "train_loss") == [0.5]
    assert (on_stage.cursor("ftjob-1").retry_at, on_stage.cursor("ftjob-1").error) == (0.0, "")
