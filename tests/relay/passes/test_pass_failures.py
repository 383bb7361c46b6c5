"""What becomes of a pass when a call fails: nothing lost, the cause named, tried again in time."""

from dataclasses import replace

import pytest

from finetune_wandb.model.errors import DeniedError, RejectedError, ThrottledError, UnavailableError
from finetune_wandb.relay.ports import RelayOptions, options_of
from tests.fakes import KEY, FakeKeys, Once, settings
from tests.fakes import relay_account as account_named
from tests.relay.stage import JOB, Stage, body, event


@pytest.mark.parametrize("lost", ["", "lost_"])
@pytest.mark.parametrize("port", ["post", "ensure_run", "save", "list_events"])
async def test_values_are_there_once_when_a_call_fails(stage: Stage, port: str, lost: str) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    error = UnavailableError("down", subject="x")
    gate = Once(**{f"{lost}{port}": error})
    stage.api.gate = stage.cursors.gate = stage.sink.gate = gate
    try:
        await stage.tick()
    except UnavailableError:
        assert port == "save"  # nothing could be recorded: the message comes again
    stage.now += 60
    await stage.tick()
    assert stage.values() == [(1, "train_loss", 2.0)]
    assert (stage.cursor.error, stage.cursor.outbox) == ("", b"")


async def test_one_job_goes_on_when_another_fails(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.api.put(body(id="ftjob-2", metadata={"wandb_project": "a/b"}))
    first, second = await stage.tick()
    assert (first.relay_state, first.error) == ("live", "")
    assert second.relay_state == "parked"
    assert "project" in second.error


@pytest.mark.parametrize("field", ["project", "entity"])
async def test_job_is_parked_when_its_run_cannot_be_named(stage: Stage, field: str) -> None:
    stage.api.put(body(metadata={f"wandb_{field}": "x/../y"}))
    (outcome,) = await stage.tick()
    assert outcome.relay_state == "parked"
    assert field in outcome.error
    assert f"WANDB_{field.upper()}" in outcome.remedy
    assert stage.sink.calls == []


async def test_job_goes_where_it_is_told_when_the_remedy_was_applied(stage: Stage) -> None:
    """A run that W&B never had is not bound to the project that was refused."""
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.sink.closed.add("team/proj")
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, bool(outcome.error)) == ("parked", True)
    stage.account = account_named(project="other")
    stage.now += 3600
    await stage.tick()
    assert list(stage.sink.runs) == [f"team/other/{JOB}"]
    assert stage.values() == [(1, "train_loss", 2.0)]


async def test_values_flow_with_the_next_pass_when_a_key_is_accepted_at_last(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.keys = FakeKeys(None)
    for _ in range(9):
        (outcome,) = await stage.tick()
        stage.now += 60
    assert (outcome.relay_state, outcome.error) == ("parked", "no key was accepted yet")
    stage.keys = FakeKeys()
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, len(stage.values())) == ("live", 1)


async def test_key_is_reported_when_wandb_refuses_it(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.sink.refused.add(KEY.value.reveal())
    (outcome,) = await stage.tick()
    assert outcome.key_refused
    stage.sink.refused.clear()
    (outcome,) = await stage.tick()
    assert (outcome.error, len(stage.values())) == ("", 1)


async def test_new_run_holds_everything_when_somebody_deleted_the_old_one(stage: Stage) -> None:
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    stage.sink.delete(f"team/proj/{JOB}")
    job.events = [event(2, train_loss=1.0), *job.events]
    for _ in range(4):
        stage.now += 60
        await stage.tick()
    assert list(stage.sink.runs) == [f"team/proj/{JOB}-2"]
    assert [step for step, _, _ in stage.values()] == [1, 2]
    assert stage.cursor.values == 2


async def test_values_go_on_when_an_alert_is_refused(stage: Stage) -> None:
    stage.options = RelayOptions(alerts=frozenset({"failed"}))
    stage.api.put(body("failed"), events=[event(1, train_loss=2.0)])
    stage.sink.gate = Once(alert=RejectedError("no alerts here", subject="run", code="graphql"))
    await stage.finish()
    assert stage.values() == [(1, "train_loss", 2.0)]
    assert any("alert failed could not be raised" in note for note in stage.cursor.notes)


async def test_alert_is_raised_once_when_the_first_try_fails(stage: Stage) -> None:
    stage.options = RelayOptions(alerts=frozenset({"failed"}))
    stage.api.put(body("failed"))
    stage.sink.gate = Once(alert=UnavailableError("down", subject="run"))
    await stage.finish()
    assert [alert.reason for alert in stage.run.alerts] == ["failed"]


async def test_denied_listing_parks_the_job_when_the_app_has_no_right(stage: Stage) -> None:
    stage.api.put(body())
    denied = DeniedError("no right", subject="x", code="403", remedy="grant it")
    stage.api.gate = Once(list_events=denied)
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.remedy) == ("parked", "grant it")
    assert not outcome.key_refused


async def test_job_is_left_alone_until_the_time_a_service_asked_for(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    stage.api.gate = Once(list_events=ThrottledError("slow down", subject=JOB, retry_after=600.0))
    await stage.tick()
    assert (stage.cursor.relay_state, stage.cursor.retry_at) == ("live", stage.now + 600.0)
    stage.api.calls.clear()
    stage.now += 60
    # Every tick sends a job that lives: only its run hears a heartbeat.
    await stage.tick()
    assert stage.api.calls == []
    stage.now += 540
    await stage.tick()
    assert stage.api.calls == ["list_events", "list_checkpoints"]


async def test_values_go_on_when_a_stopped_job_may_not_be_cancelled(stage: Stage) -> None:
    stage.options = RelayOptions(cancel_on_stop=True)
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    stage.run.stopped = True
    stage.api.gate = Once(cancel_job=DeniedError("no right to cancel", subject=JOB, code="403"))
    job.events.insert(0, event(2, train_loss=1.0))
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert any("no right to cancel" in note for note in stage.cursor.notes)
    job.events.insert(0, event(3, train_loss=0.5))
    await stage.tick()
    assert stage.values() == [
        (1, "train_loss", 2.0),
        (2, "train_loss", 1.0),
        (3, "train_loss", 0.5),
    ]
    assert stage.api.cancelled == [JOB], "tried again with the next request"


async def test_no_job_is_cancelled_when_its_account_is_only_observed(stage: Stage) -> None:
    stage.options = RelayOptions(cancel_on_stop=True)
    stage.account = replace(stage.account, observed=True)
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    stage.run.stopped = True
    job.events.insert(0, event(2, train_loss=1.0))
    await stage.tick()
    assert stage.api.cancelled == []
    assert any("Stop" in note for note in stage.cursor.notes)


def test_no_job_is_cancelled_when_the_app_only_observes() -> None:
    given = {"ON_WANDB_STOP": "cancel"}
    assert options_of(settings(**given)).cancel_on_stop
    assert not options_of(settings(**given, APPLY_MODE="observe")).cancel_on_stop


async def test_other_jobs_are_relayed_when_one_stored_row_cannot_be_read(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.api.put({**body(), "id": f"ftjob-{number}"}, events=[event(1, train_loss=0.5)])
    await stage.tick()
    broken = stage.cursors.stored[stage.account.key, "ftjob-2"]
    broken.state = {**broken.state, "ledger": {"count": 1, "another": "shape"}}
    kept = dict(broken.state)
    for number in (1, 2, 3):
        stage.api.jobs[f"ftjob-{number}"].events.insert(0, event(2, train_loss=0.4))
    stage.now += 60
    outcomes = {one.job: one for one in await stage.tick()}
    assert {job: one.relay_state for job, one in outcomes.items()} == {
        "ftjob-1": "live",
        "ftjob-2": "parked",
        "ftjob-3": "live",
    }
    assert outcomes["ftjob-2"].remedy
    assert stage.cursors.stored[stage.account.key, "ftjob-2"].state == kept


async def test_job_is_relayed_when_another_version_stored_more_or_less(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    await stage.tick()
    stored = stage.cursors.stored[stage.account.key, JOB]
    hints = {**stored.state["hints"], "of_a_later_version": 1}
    stored.state = {**stored.state, "hints": hints, "of_a_later_version": {}}
    del stored.state["file_looks"]
    stage.api.jobs[JOB].events.insert(0, event(2, train_loss=0.4))
    stage.now += 60
    await stage.tick()
    assert [step for step, _, _ in stage.values()] == [1, 2]
