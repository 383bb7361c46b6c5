"""A job that publishes more than a table row can tell fails by itself, with a cause to act on."""

import random
from typing import Any

from finetune_wandb.relay.passes.job_pass import JobOutcome
from tests.relay.stage import JOB, Stage, body, event

_NOISE = random.Random(7)
ENDLESS = {f"metric_{_NOISE.randbytes(60).hex()}": 0.5 for _ in range(30_000)}
"""Names that no compression brings below 1 MiB."""


def steps(outcomes: list[JobOutcome]) -> dict[str, Any]:
    return {one.job: (one.relay_state, one.values) for one in outcomes}


async def test_other_jobs_go_on_when_the_memory_of_one_does_not_fit() -> None:
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.api.put(body(id="ftjob-2"), events=[event(1, train_loss=3.0)])
    await stage.tick()
    job.events = [event(2, **ENDLESS), *job.events]
    stage.api.jobs["ftjob-2"].events = [event(2, train_loss=2.5)]
    stage.now += 60
    outcomes = await stage.tick()
    assert steps(outcomes) == {JOB: ("parked", 0), "ftjob-2": ("live", 1)}
    # In the table as well, beside what the run already holds.
    cursor = stage.cursor
    assert cursor.relay_state == "parked"
    assert cursor.retry_at > stage.now
    assert "too large" in cursor.error
    assert (cursor.values, cursor.rows) == (1, 1)
    assert stage.values(stage.sink.runs[f"team/proj/{JOB}"]) == [(1, "train_loss", 2.0)]


async def test_cause_is_stored_when_the_first_pass_already_does_not_fit() -> None:
    stage = Stage()
    stage.api.put(body(), events=[event(1, **ENDLESS)])
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.values) == ("parked", 0)
    assert "too large" in stage.cursor.error
    assert stage.sink.runs == {}


async def test_values_are_relayed_once_when_there_is_room_again() -> None:
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    job.events = [event(2, **ENDLESS), *job.events]
    await stage.tick()
    job.events = [event(3, train_loss=1.0), event(1, train_loss=2.0)]
    stage.now += 3600
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert [(step, value) for step, _, value in stage.values()] == [(1, 2.0), (3, 1.0)]


async def test_run_ends_with_its_job_when_the_last_values_do_not_fit() -> None:
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    job.events = [event(2, **ENDLESS), *job.events]
    job.body = body("succeeded")
    for _ in range(3):
        stage.now += 3600
        (outcome,) = await stage.tick()
    assert "too large" in outcome.error
    assert (stage.run.state, stage.run.finishes) == ("finished", 1)
    assert stage.run.summary["status"] == "succeeded"
