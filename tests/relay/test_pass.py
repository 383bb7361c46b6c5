"""One situation at a time: what a pass does with it, and what the next pass finds."""

import json
import math
import sys
from typing import Any

import pytest

from model.errors import DeniedError, RejectedError, ThrottledError, UnavailableError
from relay.curve import points
from relay.options import RelayOptions
from tests.fakes import KEY, FakeKeys, Once
from tests.fakes import relay_account as account_named
from tests.relay.stage import JOB, T0, Stage, body, event


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_run_grows_when_events_come(stage: Stage) -> None:
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    job.events = [event(2, train_loss=1.0), *job.events]
    (outcome,) = await stage.tick()
    assert stage.values() == [(1, "train_loss", 2.0), (2, "train_loss", 1.0)]
    assert (outcome.relay_state, outcome.values) == ("live", 1)
    assert (stage.run.state, stage.run.summary["train_loss"]) == ("running", 1.0)
    assert [line.split(" ", 1)[1] for line in stage.run.output] == ["Step 1", "Step 2"]


async def test_nothing_is_sent_or_stored_when_nothing_is_new(stage: Stage) -> None:
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    await stage.tick()
    before = stage.run.posts, stage.cursor.etag
    stage.now += 30
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
    assert stage.run.posts == posts + 5
    assert (stage.run.state, stage.cursor.relay_state) == ("running", "live")


async def test_run_is_pending_when_the_job_waits(stage: Stage) -> None:
    job = stage.api.put(body("queued"))
    await stage.tick()
    assert (stage.run.state, stage.run.posts) == ("pending", 0)
    stage.now += 600
    await stage.tick()
    assert stage.run.posts == 0
    job.body["status"] = "running"
    await stage.tick()
    assert (stage.run.state, stage.run.posts) == ("running", 1)


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


async def test_sources_are_merged_when_the_job_is_over(stage: Stage) -> None:
    checkpoint = {"id": "cp", "step_number": 2, "metrics": {"step": 2.0, "full_valid_loss": 4.0}}
    stage.api.put(
        body("succeeded", result_files=["file-r"]),
        events=[event(2, train_loss=2.0), event(1, train_loss=3.0)],
        checkpoints=[checkpoint],
    )
    stage.api.files["file-r"] = (
        b"step,train_loss,train_accuracy,valid_loss\n1,3.0,0.5,-1\n2,9.9,0.6,7\n3,1,,\n"
    )
    await stage.finish()
    assert sorted(stage.values()) == [
        (1, "train_loss", 3.0),
        (1, "train_mean_token_accuracy", 0.5),
        (2, "full_valid_loss", 4.0),
        (2, "train_loss", 2.0),
        (2, "train_mean_token_accuracy", 0.6),
        (2, "valid_loss", 7.0),
        (3, "train_loss", 1.0),
    ]
    assert [row["step"] for row in stage.run.history] == [1, 2, 3]


async def test_no_value_is_lost_when_the_file_breaks_after_the_first_request(stage: Stage) -> None:
    """What a pass claimed and could not send must not be remembered as relayed."""
    name = "m" * 250_000
    lines = [f"step,{name}", *(f"{step},{step}.5" for step in range(1, 13))]
    stage.api.put(body("succeeded", result_files=["file-r"]))
    # Read in small pieces, so that the second request's rows are claimed when it breaks.
    stage.api.files["file-r"] = "\n".join(lines).encode() + b"\n" + b"13,1\n" * 30_000
    stage.api.chunk = 65_536

    class Breaks(Once):
        async def after(self, call: str) -> None:
            self.seen = getattr(self, "seen", 0) + (call == "read_file")
            if call == "read_file" and self.seen == 6:
                raise UnavailableError("broke", subject="file-r")

    stage.api.gate = Breaks()
    (outcome,) = await stage.tick()
    assert outcome.error
    assert outcome.values >= 4
    stage.api.gate = Once()
    await stage.finish()
    assert [(step, value) for step, _, value in stage.values()] == [
        *((step, step + 0.5) for step in range(1, 13)),
        (13, 1.0),
    ]


async def test_file_is_read_later_when_it_is_named_before_it_is_there(stage: Stage) -> None:
    stage.api.put(body("succeeded", result_files=["file-r"]), events=[event(1, train_loss=2.0)])
    await stage.tick()
    assert (stage.run.state, len(stage.values())) == ("finished", 1)
    stage.api.files["file-r"] = b"step,train_loss\n2,1.5\n"
    stage.now += 60
    await stage.finish()
    assert (2, "train_loss", 1.5) in stage.values()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04\xff\xfe", b"1,2\n3,4\n", "öäü,step2\n".encode("utf-16"), b'"' * 99],
)
async def test_run_ends_with_its_events_when_the_file_is_no_csv(
    stage: Stage, content: bytes
) -> None:
    stage.api.put(body("succeeded", result_files=["file-r"]), events=[event(1, train_loss=2.0)])
    stage.api.files["file-r"] = content
    await stage.finish()
    assert (stage.run.state, len(stage.values())) == ("finished", 1)
    assert any("file-r could not be used" in note for note in stage.cursor.notes)


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
    assert stage.sink.calls == []


async def test_job_goes_where_it_is_told_when_the_remedy_was_applied(stage: Stage) -> None:
    """A run that W&B never had is not bound to the project that was refused."""
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    stage.sink.closed.add("proj")
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


async def test_forced_pass_reads_everything_when_a_job_is_complete(stage: Stage) -> None:
    job = stage.api.put(body("succeeded"), events=[event(9, train_loss=2.0)])
    await stage.finish()
    job.events = [*job.events, *(event(step, train_loss=1.0) for step in range(8, 0, -1))]
    assert [one.relay_state for one in await stage.tick()] == ["complete"]
    assert len(stage.values()) == 1
    await stage.tick(force=True)
    assert len(stage.values()) == 9
    assert (stage.run.state, stage.cursor.relay_state) == ("finished", "complete")


async def test_infinity_is_a_value_when_a_loss_explodes(stage: Stage) -> None:
    job = stage.api.put(body(), events=[event(1, valid_loss=math.inf, train_loss=-math.inf)])
    await stage.tick()
    job.events = [event(2, valid_loss=3.0, train_loss=math.nan), *job.events]
    (outcome,) = await stage.tick()
    assert outcome.error == ""
    assert stage.values() == [
        (1, "valid_loss", math.inf),
        (1, "train_loss", -math.inf),
        (2, "valid_loss", 3.0),
    ]
    assert stage.run.summary["best/valid_loss"] == 3.0


@pytest.mark.parametrize("moment", [1e300, -5, "NaN", "inf", [], "soon", 10**40])
async def test_job_is_relayed_when_its_times_are_impossible(stage: Stage, moment: Any) -> None:
    stage.api.put(
        {**body("succeeded"), "created_at": moment, "finished_at": moment},
        events=[{**event(1, train_loss=2.0), "created_at": moment}],
    )
    await stage.finish()
    assert stage.values() == [(1, "train_loss", 2.0)]
    json.dumps(stage.run.history, allow_nan=False)


async def test_late_rows_have_times_in_order_when_the_source_has_none(stage: Stage) -> None:
    stage.api.put(body("succeeded", result_files=["file-r"]))
    stage.api.files["file-r"] = b"step,train_loss\n1,3\n2,2\n3,1\n"
    await stage.finish()
    times = [row["_timestamp"] for row in stage.run.history]
    assert times == sorted(times)
    assert T0 <= times[0] <= times[-1] <= T0 + 100


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
    # The finder believes that the job is live for some minutes, and another process knows nothing.
    await stage.tick()
    assert stage.api.calls == []
    stage.now += 540
    await stage.tick()
    assert stage.api.calls == ["list_events"]


async def test_curve_is_of_numbers_when_a_loss_is_the_largest_number_there_is(stage: Stage) -> None:
    largest = sys.float_info.max
    stage.api.put(body(), events=[event(2, train_loss=1.0), event(1, train_loss=largest)])
    await stage.tick()
    assert stage.values() == [(1, "train_loss", largest), (2, "train_loss", 1.0)]
    assert points(stage.cursor.curve) == {"train_loss": [[2, 1.0]]}
