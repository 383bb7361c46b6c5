"""A job's life as W&B shows it: pending, running, paused, ended, late values, lost runs, Stop."""

from dataclasses import replace

import pytest

from finetune_wandb.relay.ports import RelayOptions
from tests.e2e.relay.stage import START, Stage, job, message, metric, steps, values


@pytest.mark.parametrize("status", ["pending", "created", "queued", "validating_files"])
async def test_run_is_pending_when_the_job_has_not_begun(on_stage: Stage, status: str) -> None:
    await on_stage.put(job(status=status), events=[message("waiting for a GPU", 1)])
    await on_stage.tick()
    run = on_stage.run("ftjob-1")
    assert (run["state"], run["posts"], run["history"]) == ("pending", 1, [])
    assert [line.split(" ", 1)[1] for line in run["output"]] == ["waiting for a GPU"]
    assert (run["summary"]["status"], bool(run["summary"]["queue_state"])) == (status, True)
    # A pending run needs no heartbeat: hours in the queue do not make it Crashed.
    for _ in range(4):
        await on_stage.tick(3600)
    run = on_stage.run("ftjob-1")
    assert (run["state"], run["posts"]) == ("pending", 1)
    await on_stage.put(job(), events=[message("waiting for a GPU", 1), metric(1)])
    await on_stage.tick(60)
    run = on_stage.run("ftjob-1")
    assert (run["state"], steps(run)) == ("running", [1])
    assert [line.split(" ", 1)[1] for line in run["output"]] == ["waiting for a GPU"]


@pytest.mark.parametrize(
    ("status", "state", "exitcode"),
    [("succeeded", "finished", 0), ("failed", "failed", 1), ("cancelled", "failed", 1)],
)
async def test_run_has_the_jobs_end_when_the_job_is_over(
    on_stage: Stage, status: str, state: str, exitcode: int
) -> None:
    error = {"code": "invalid_training_file", "message": "Row 7 has no answer"}
    end = job(status=status, finished_at=int(START) + 90)
    if status == "failed":
        end["error"] = error
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    await on_stage.put(end, events=[metric(1), metric(2)])
    await on_stage.tick(60)
    run = on_stage.run("ftjob-1")
    assert (run["state"], run["exitcode"], steps(run)) == (state, exitcode, [1, 2])
    assert run["summary"]["status"] == status
    assert ("cancelled" in run["tags"]) == (status == "cancelled")
    if status == "failed":
        assert run["summary"]["error_code"] == error["code"]
        assert run["summary"]["error_message"] == error["message"]
        assert run["output"][-1].endswith("Job failed: invalid_training_file: Row 7 has no answer")
        assert run["output"][-1].startswith("ERROR ")


@pytest.mark.parametrize("status", ["pausing", "paused", "resuming", "preempted", "sleeping", ""])
async def test_run_stays_alive_when_the_status_is_not_an_end(on_stage: Stage, status: str) -> None:
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    for _ in range(20):  # ten minutes, twice the silence that W&B calls a crash
        await on_stage.put(job(status=status), events=[metric(1)])
        await on_stage.tick(30)
        assert on_stage.run("ftjob-1")["state"] == "running"
    run = on_stage.run("ftjob-1")
    assert run["summary"]["status"] == (status or "unknown")
    assert ("paused" in run["tags"]) == (status == "paused")
    # One with content, then one a tick: ticks are half a minute apart here.
    assert run["posts"] <= 22
    await on_stage.put(job(), events=[metric(1), metric(2)])
    await on_stage.tick(30)
    run = on_stage.run("ftjob-1")
    assert (steps(run), run["state"], "paused" in run["tags"]) == ([1, 2], "running", False)
    assert on_stage.runs() == ["sandbox-team/proj/ftjob-1"]


async def test_run_is_revived_when_the_relay_was_away(on_stage: Stage) -> None:
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    on_stage.now += 3600
    assert on_stage.run("ftjob-1")["state"] == "crashed"
    await on_stage.tick()
    assert on_stage.run("ftjob-1")["state"] == "running"


async def test_end_stays_when_values_come_late(on_stage: Stage) -> None:
    end = job(status="succeeded", finished_at=int(START) + 90, fine_tuned_model="ft:one")
    await on_stage.put(end, events=[metric(1)])
    await on_stage.tick()
    assert on_stage.run("ftjob-1")["state"] == "finished"
    late = [
        metric(1),
        {**metric(2), "created_at": int(START)},
        message("Training hours billed: 0.5", 95),
    ]
    await on_stage.put(
        end,
        events=late,
        checkpoints=[{"id": "c", "step_number": 2, "metrics": {"full_valid_loss": 0.25}}],
        result_csv="step,train_loss,valid_loss\n1,0.5,0.75\n2,0.3333333333333333,-1\n",
    )
    await on_stage.settled()
    run = on_stage.run("ftjob-1")
    assert (run["state"], run["exitcode"]) == ("finished", 0)
    assert values(run, "train_loss") == [0.5, 1 / 3]
    assert values(run, "valid_loss") == [0.75]
    assert values(run, "full_valid_loss") == [0.25]
    assert run["summary"]["billed_hours"] == 0.5
    assert on_stage.cursor("ftjob-1").relay_state == "complete"


async def test_new_run_takes_its_place_when_a_run_was_deleted(on_stage: Stage) -> None:
    await on_stage.put(job(), events=[metric(1), metric(2)])
    await on_stage.tick()
    on_stage.hub.delete_run(on_stage.hub.run("sandbox-team", "proj", "ftjob-1"))  # type: ignore[arg-type]
    await on_stage.put(job(), events=[metric(1), metric(2), metric(3)])
    for _ in range(4):
        await on_stage.tick(30)
    assert on_stage.runs() == ["sandbox-team/proj/ftjob-1-2"]
    assert steps(on_stage.run("ftjob-1-2")) == [1, 2, 3]
    cursor = on_stage.cursor("ftjob-1")
    assert str(cursor.run) == "sandbox-team/proj/ftjob-1-2"
    assert (cursor.values, cursor.error, cursor.relay_state) == (3, "", "live")


async def test_stop_is_noted_when_somebody_pressed_it(on_stage: Stage) -> None:
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    on_stage.hub.run("sandbox-team", "proj", "ftjob-1").stopped = True  # type: ignore[union-attr]
    await on_stage.put(job(), events=[metric(1), metric(2)])
    await on_stage.tick(60)
    await on_stage.tick(130)
    notes = on_stage.cursor("ftjob-1").notes
    assert [note for note in notes if "Stop" in note] == list(notes)
    assert len(notes) == 1
    raw = await on_stage.ports.jobs.read_job(on_stage.account, "ftjob-1")
    assert raw["status"] == "running"


async def test_job_is_cancelled_when_stop_is_to_cancel(on_stage: Stage) -> None:
    on_stage.options = RelayOptions(cancel_on_stop=True)
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    on_stage.hub.run("sandbox-team", "proj", "ftjob-1").stopped = True  # type: ignore[union-attr]
    await on_stage.put(job(), events=[metric(1), metric(2)])
    await on_stage.tick(60)
    raw = await on_stage.ports.jobs.read_job(on_stage.account, "ftjob-1")
    assert raw["status"] == "cancelled"
    await on_stage.tick(60)
    run = on_stage.run("ftjob-1")
    assert (run["state"], "cancelled" in run["tags"]) == ("failed", True)
    assert any("cancelled, because" in note for note in on_stage.cursor("ftjob-1").notes)


async def test_job_alone_is_parked_when_its_project_cannot_be_written(on_stage: Stage) -> None:
    key = on_stage.hub.keys.authenticate(on_stage.key.value.reveal())
    key.write, key.registered = ["sandbox-team/proj"], True
    await on_stage.put(job("ftjob-1"), events=[metric(1)])
    await on_stage.put(
        job("ftjob-2", metadata={"wandb_project": "closed", "team": "blue"}), events=[metric(1)]
    )
    outcomes = await on_stage.tick()
    assert (outcomes["ftjob-1"].relay_state, outcomes["ftjob-2"].relay_state) == ("live", "parked")
    cursor = on_stage.cursor("ftjob-2")
    assert "may not write" in cursor.error
    assert cursor.remedy
    assert steps(on_stage.run("ftjob-1")) == [1]
    key.write = None
    await on_stage.tick(4000)
    assert steps(on_stage.run("ftjob-2", project="closed")) == [1]
    assert on_stage.run("ftjob-2", project="closed")["config"]["metadata"] == {"team": "blue"}


@pytest.mark.parametrize(
    ("integration", "metadata", "expected"),
    [
        ({"project": "job-p", "entity": "job-e"}, {"wandb_project": "meta-p"}, "job-e/job-p"),
        ({"project": "job-p", "entity": None}, {"wandb_entity": "meta-e"}, "meta-e/job-p"),
        (None, {"wandb_project": "meta-p", "wandb_entity": "meta-e"}, "meta-e/meta-p"),
        (None, {"wandb_project": "meta-p"}, "acc-e/meta-p"),
        (None, {}, "acc-e/acc-p"),
    ],
    ids=["integration", "integration-and-metadata", "metadata", "metadata-project", "account"],
)
async def test_run_goes_where_the_job_says_when_it_says_so(
    on_stage: Stage,
    integration: dict[str, str] | None,
    metadata: dict[str, str],
    expected: str,
) -> None:
    on_stage.hub.settings.entities = "any"
    on_stage.account = replace(on_stage.account, entity="acc-e", project="acc-p")
    on_stage.options = RelayOptions(skip_native=False)
    more = {"integrations": [{"type": "wandb", "wandb": integration}]} if integration else {}
    await on_stage.put(job(metadata=metadata, **more), events=[metric(1)])
    await on_stage.tick()
    suffix = "-relay" if integration else ""
    assert on_stage.runs() == [f"{expected}/ftjob-1{suffix}"]


async def test_native_job_is_skipped_visibly_when_nothing_else_is_set(on_stage: Stage) -> None:
    native = job(integrations=[{"type": "wandb", "wandb": {"project": "theirs"}}])
    await on_stage.put(native, events=[metric(1)])
    await on_stage.tick()
    cursor = on_stage.cursor("ftjob-1")
    assert (cursor.relay_state, cursor.run, on_stage.runs()) == ("skipped", None, [])
    assert "NATIVE_JOBS" in cursor.notes[0]


async def test_native_runs_stay_apart_when_native_jobs_are_relayed(on_stage: Stage) -> None:
    # The service's own integration names its run after the job, in the same project.
    native = job(
        integrations=[{"type": "wandb", "wandb": {"project": "proj", "run_id": "ftjob-1"}}]
    )
    on_stage.options = RelayOptions(skip_native=False)
    on_stage.hub.create_run(
        on_stage.hub.project_made("sandbox-team", "proj"), "ftjob-1", "the-service"
    )
    await on_stage.put(native, events=[metric(1)])
    await on_stage.tick()
    assert on_stage.run("ftjob-1")["posts"] == 0
    assert steps(on_stage.run("ftjob-1-relay")) == [1]
