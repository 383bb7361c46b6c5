"""One situation at a time: what a pass does with it, and what the next pass finds."""

import json
from typing import Any

import pytest

from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import Open
from tests.relay.race import Died
from tests.relay.stage import JOB, T0, Stage, body, event


async def test_run_grows_when_events_come(stage: Stage) -> None:
    started = {"id": "ev-0", "created_at": T0, "message": "Training started."}
    job = stage.api.put(body(), events=[event(1, train_loss=2.0), started])
    await stage.tick()
    job.events = [event(2, train_loss=1.0), *job.events]
    (outcome,) = await stage.tick()
    assert stage.values() == [(1, "train_loss", 2.0), (2, "train_loss", 1.0)]
    assert (outcome.relay_state, outcome.values) == ("live", 1)
    assert (stage.run.state, stage.run.summary["train_loss"]) == ("running", 1.0)
    # The values are in the charts; their sentences are not repeated.
    assert [line.split(" ", 1)[1] for line in stage.run.output] == ["Training started."]


async def test_sentence_stays_in_the_console_when_no_chart_has_what_it_says(stage: Stage) -> None:
    lost = {**event(1, train_loss=float("nan")), "message": "Step 1: training loss=nan"}
    error = {**event(2, train_loss=1.0), "message": "Grader failed", "level": "error"}
    stage.api.put(body(), events=[event(3, train_loss=1.0), error, lost])
    for _ in range(2):
        await stage.tick()
        stage.now += 60
    assert [line.split(" ", 1)[1] for line in stage.run.output] == [
        "Step 1: training loss=nan",
        f"{stage.run.output[1].split(' ')[1]} Grader failed",
    ]


async def test_nothing_is_sent_or_stored_when_nothing_is_new(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    before = stage.run.posts, stage.cursor.etag
    stage.now += 20
    stage.cursors.calls.clear()
    await stage.tick()
    assert (stage.run.posts, stage.cursor.etag) == before
    assert stage.cursors.calls == ["read"]


async def test_heartbeat_keeps_the_run_alive_when_a_job_is_paused(stage: Stage) -> None:
    stage.api.put(body("paused"), events=[event(1, train_loss=2.0)])
    await stage.tick()
    posts = stage.run.posts
    for _ in range(10):
        stage.now += 60
        await stage.tick()
    assert stage.run.posts == posts + 10
    assert (stage.run.state, stage.cursor.relay_state) == ("running", "live")


async def test_run_is_pending_when_the_job_waits(stage: Stage) -> None:
    job = stage.api.put(body("queued"))
    job.events = [{"id": "e", "created_at": T0, "level": "info", "message": "Job enqueued."}]
    await stage.tick()
    assert (stage.run.state, stage.run.posts) == ("pending", 1)
    assert (stage.run.summary["status"], stage.run.summary["queue_state"]) == ("queued", "queued")
    assert [line.split(" ", 1)[1] for line in stage.run.output] == ["Job enqueued."]
    for _ in range(10):
        stage.now += 60
        await stage.tick()
    assert (stage.run.state, stage.run.posts) == ("pending", 1), "no heartbeat, no repetition"
    job.body["status"] = "running"
    await stage.tick()
    assert (stage.run.state, stage.run.posts) == ("running", 2)


async def test_run_is_pending_again_when_a_pass_dies_before_it_said_so(stage: Stage) -> None:
    stage.api.put(body("queued"))

    class Dies(Open):
        upserts = 0

        async def before(self, call: str) -> None:
            self.upserts += call == "ensure_run"
            if self.upserts == 2:
                raise Died

    stage.sink.gate = Dies()
    with pytest.raises(Died):
        await stage.tick()
    assert stage.run.state == "running"
    stage.sink.gate = Open()
    stage.now += 60
    await stage.tick()
    assert stage.run.state == "pending"


async def test_best_checkpoint_is_shown_while_the_job_runs_and_when_it_pauses(
    stage: Stage,
) -> None:
    def checkpoint(step: int, loss: float) -> dict[str, Any]:
        metrics = {"step": step, "full_valid_loss": loss}
        model = f"ft:step-{step}"
        names = {"id": f"c{step}", "fine_tuned_model_checkpoint": model}
        return {**names, "step_number": step, "metrics": metrics}

    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    job.checkpoints = [checkpoint(1, 0.7)]
    await stage.tick()
    assert "list_checkpoints" not in stage.api.calls, "a fresh job has none"
    for _ in range(10):
        stage.now += 60
        await stage.tick()
    assert stage.api.calls.count("list_checkpoints") == 1
    assert stage.run.summary["best_checkpoint/step"] == 1
    assert (1, "full_valid_loss", 0.7) in stage.values()
    job.checkpoints.append(checkpoint(2, 0.5))
    job.body = body("paused")
    stage.now += 60
    await stage.tick()
    assert stage.run.summary["best_checkpoint/step"] == 2
    assert stage.api.calls.count("list_checkpoints") == 2


@pytest.mark.parametrize("status", ["validating", "resuming", "", "¿?", "Succeeded"])
async def test_job_is_alive_when_its_status_is_not_known(stage: Stage, status: str) -> None:
    stage.api.put(body(status), events=[event(1, train_loss=2.0)])
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, stage.run.state) == ("live", "running")
    assert len(stage.values()) == 1


@pytest.mark.parametrize(
    ("status", "state"), [("succeeded", "finished"), ("failed", "failed"), ("cancelled", "failed")]
)
async def test_run_ends_as_the_job_did_when_it_is_over(
    stage: Stage, status: str, state: str
) -> None:
    error = {"code": "invalid_data", "message": "row 7 is bad"} if status == "failed" else None
    stage.api.put(body(status, error=error), events=[event(1, train_loss=2.0)])
    await stage.finish()
    assert (stage.run.state, stage.run.finishes) == (state, 1)
    assert stage.run.summary["total_seconds"] == 100
    assert ("cancelled" in stage.run.attributes.tags) == (status == "cancelled")
    if error:
        assert stage.run.summary["error_message"] == "row 7 is bad"
        assert "row 7 is bad" in stage.run.output[-1]


async def test_ended_run_stays_ended_when_late_values_come(stage: Stage) -> None:
    job = stage.api.put(body("succeeded"), events=[event(2, train_loss=2.0)])
    await stage.tick()
    stage.now += 60
    job.events = [event(2, train_loss=2.0), event(1, train_loss=3.0)]
    await stage.finish()
    assert sorted(stage.values()) == [(1, "train_loss", 3.0), (2, "train_loss", 2.0)]
    assert stage.run.state == "finished"


async def test_stale_listing_changes_nothing_when_the_run_has_its_end(stage: Stage) -> None:
    job = stage.api.put(body("succeeded"), events=[event(1, train_loss=2.0)])
    await stage.tick()
    posts = stage.run.posts
    stage.now += 60
    job.body = body("running")
    await stage.tick()
    assert (stage.run.posts, stage.run.state) == (posts, "finished")


async def test_summary_follows_when_the_job_says_more_after_its_end(stage: Stage) -> None:
    job = stage.api.put(body("succeeded"))
    await stage.tick()
    assert "fine_tuned_model" not in stage.run.summary
    job.body |= {"fine_tuned_model": "ft:m", "trained_tokens": 5}
    stage.now += 60
    await stage.tick()
    assert stage.run.summary["fine_tuned_model"] == "ft:m"
    assert stage.run.state == "finished"


async def test_native_job_is_left_alone_when_it_has_its_own_integration(stage: Stage) -> None:
    native = {"type": "wandb", "wandb": {"project": "theirs", "name": "n", "tags": ["a"]}}
    stage.api.put(body(integrations=[native]), events=[event(1, train_loss=2.0)])
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, stage.sink.runs) == ("skipped", {})
    stage.options = RelayOptions(skip_native=False)
    await stage.tick()
    # Never two writers in one run: the integration's own has the job's id.
    (path,) = stage.sink.runs
    assert path.startswith("team/theirs/")
    assert path != f"team/theirs/{JOB}"
    assert stage.run.attributes.display_name == "n"


async def test_native_job_is_relayed_when_such_jobs_are_skipped_no_longer(stage: Stage) -> None:
    native = {"type": "wandb", "wandb": {"project": "p"}}
    stage.api.put(body(integrations=[native]), events=[event(1, train_loss=2.0)])
    await stage.tick()
    assert stage.cursor.relay_state == "skipped"
    stage.options = RelayOptions(skip_native=False)
    await stage.tick()
    assert stage.values() == [(1, "train_loss", 2.0)]
    assert (stage.cursor.relay_state, stage.cursor.notes) == ("live", ())


async def test_forced_pass_reads_everything_when_a_job_is_complete(stage: Stage) -> None:
    job = stage.api.put(body("succeeded"), events=[event(9, train_loss=2.0)])
    await stage.finish()
    job.events = [*job.events, *(event(step, train_loss=1.0) for step in range(8, 0, -1))]
    assert [one.relay_state for one in await stage.tick()] == ["complete"]
    assert len(stage.values()) == 1
    await stage.tick(force=True)
    assert len(stage.values()) == 9
    assert (stage.run.state, stage.cursor.relay_state) == ("finished", "complete")


async def test_cost_of_a_tick_does_not_grow_when_the_history_does(stage: Stage) -> None:
    """A tick of a job with thousands of steps asks for one page and stores a few bytes."""
    job = stage.api.put(body())
    sizes, calls = [], []
    for count in (200, 4000):
        while len(job.events) < count:
            job.events.insert(0, event(len(job.events) + 1, train_loss=1.0, valid_loss=2.0))
        await stage.tick()
        job.events.insert(0, event(len(job.events) + 1, train_loss=1.0))
        stage.api.calls.clear()
        await stage.tick()
        calls.append(len(stage.api.calls))
        sizes.append(len(json.dumps(stage.cursor.state)))
    assert calls == [1, 1]
    assert sizes[1] < sizes[0] + 100


async def test_artifacts_are_asked_for_at_each_pause_and_at_the_end(stage: Stage) -> None:
    stage.options = RelayOptions(artifacts=True)
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    asked = []
    for status in ("running", "paused", "paused", "running", "paused", "succeeded"):
        job.body = body(status)
        (outcome,) = await stage.tick()
        asked.append(outcome.wants_artifacts)
        stage.now += 60
    assert asked[:5] == [False, True, False, False, True]
    for _ in range(8):
        asked.append((await stage.tick())[0].wants_artifacts)
        stage.now += 60
    assert any(asked[5:])


async def test_job_is_complete_when_its_summary_holds_an_infinity(stage: Stage) -> None:
    stage.api.put(body("succeeded"), events=[event(1, train_loss=float("inf"))])
    await stage.finish()
    assert (stage.cursor.relay_state, stage.cursor.error) == ("complete", "")
    assert stage.run.summary["train_loss"] == float("inf")


async def test_it_is_noted_when_a_job_lives_after_its_end() -> None:
    """A job cannot: but Azure may show `failed` for a moment."""
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=0.5)])
    await stage.tick()
    for status in ("failed", "running", "running"):
        stage.now += 60
        job.body = body(status)
        await stage.tick()
    note = "Azure showed the job as running after its end; its run stays ended"
    assert stage.cursor.notes == (note,)
    etag = stage.cursor.etag
    await stage.tick()
    assert stage.cursor.etag == etag
