"""What a pass makes of a job's sources: merged, late, broken, with odd times and numbers."""

import json
import math
import sys
from typing import Any

import pytest

from finetune_wandb.model.errors import AppError, MissingError, RejectedError, UnavailableError
from finetune_wandb.relay.run.summary import curve_points
from tests.fakes import Once, Open
from tests.relay.stage import T0, Stage, body, event


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


async def test_curve_is_of_numbers_when_a_loss_is_the_largest_number_there_is(stage: Stage) -> None:
    largest = sys.float_info.max
    stage.api.put(body(), events=[event(2, train_loss=1.0), event(1, train_loss=largest)])
    await stage.tick()
    assert stage.values() == [(1, "train_loss", largest), (2, "train_loss", 1.0)]
    assert curve_points(stage.cursor.curve) == {"train_loss": [[2, 1.0]]}


async def test_live_values_go_on_when_two_new_events_share_a_second(stage: Stage) -> None:
    """Listed newest first, ties in the order of writing: alone, the two look oldest first."""
    job = stage.api.put(body())
    for tick in range(1, 40):
        stage.now += 60
        for late in (-40, -40) if tick == 4 else (-40, -10):
            step = len(job.events) + 1
            job.events.append({**event(step, train_loss=1 / step), "created_at": stage.now + late})
        job.events.sort(key=lambda one: -one["created_at"])
        await stage.tick()
        assert len(stage.values()) == len(job.events)


async def test_rest_is_read_again_when_a_pass_dies_between_its_requests(stage: Stage) -> None:
    """Hints of a read count once everything that it read is in a request."""
    name = "m" * 250_000
    events = [event(step, **{name: step}) for step in range(60, 0, -1)]
    stage.api.put(body(), events=events)
    stage.sink.gate = Once(lost_post=UnavailableError("died", subject="run"))
    await stage.tick()
    assert 0 < len(stage.values()) < 60
    stage.now += 600
    await stage.tick()
    assert [step for step, _, _ in stage.values()] == list(range(1, 61))


@pytest.mark.parametrize(
    "error",
    [MissingError("gone", subject="ev", code="404"), RejectedError("no", subject="ev", code="400")],
    ids=["404", "400"],
)
async def test_other_sources_are_relayed_when_events_are_refused(
    stage: Stage, error: AppError
) -> None:
    checkpoint = {"id": "cp", "step_number": 2, "metrics": {"full_valid_loss": 4.0}}
    stage.api.put(body("succeeded", result_files=["file-r"]), checkpoints=[checkpoint])
    stage.api.files["file-r"] = b"step,train_loss\n1,3.0\n"

    class Refused(Open):
        async def before(self, call: str) -> None:
            if call == "list_events":
                raise error

    stage.api.gate = Refused()
    await stage.finish()
    assert sorted(stage.values()) == [(1, "train_loss", 3.0), (2, "full_valid_loss", 4.0)]
    assert f"events could not be read: {error.message}" in stage.cursor.notes
    assert stage.run.state == "finished"


async def test_run_ends_only_when_a_long_listing_was_read_to_its_end() -> None:
    """A pass reads so many pages; the next one goes on where it ended, and begins nothing anew."""
    stage = Stage()
    stage.api.page_size = 1
    events = [event(n, train_loss=1 / n) for n in range(1500, 0, -1)]
    stage.api.put(body("succeeded"), events=events)
    await stage.tick()
    assert (stage.cursor.relay_state, stage.run.state) == ("live", "running")
    assert len(stage.values()) == 1000
    stage.now += 60
    await stage.tick()
    assert (stage.cursor.relay_state, stage.run.state) == ("ending", "finished")
    assert stage.api.calls.count("list_events") < 1600, "a few known events are met again"
    assert len(stage.values()) == len(set(stage.values())) == 1500


async def test_differing_values_are_noted_when_a_job_trains_steps_again(stage: Stage) -> None:
    """A job may go on from its last checkpoint: the values that came first stand."""
    job = stage.api.put(body(), events=[event(n, train_loss=1 / n) for n in range(6, 0, -1)])
    await stage.tick()
    stage.now += 60
    for n in (4, 5, 6):
        again = {"id": f"again-{n}", "created_at": T0 + 100 + n}
        job.events.insert(0, {**event(n, train_loss=9.0), **again})
    await stage.tick()
    job.body = body("succeeded")
    await stage.finish()
    assert [value for _, _, value in stage.values()] == [1 / n for n in range(1, 7)]
    (note,) = stage.cursor.notes
    assert note == (
        "3 values of events and checkpoints differ from those already published and were left out,"
        " the first at step 4: train_loss 0.25 and 9.0"
    )


@pytest.mark.parametrize("loss", [0.9, 0.5001])
async def test_differing_values_of_checkpoints_are_noted(stage: Stage, loss: float) -> None:
    checkpoint = {"id": "c", "step_number": 1, "metrics": {"step": 1, "train_loss": loss}}
    job = body("succeeded")
    stage.api.put(job, events=[event(1, train_loss=0.5)], checkpoints=[checkpoint])
    await stage.finish()
    assert [note.startswith("1 values of events") for note in stage.cursor.notes] == (
        [True] if loss == 0.9 else []
    )


async def test_all_messages_are_in_the_console_when_they_are_of_one_step(stage: Stage) -> None:
    texts = ("Checkpoint created at step 100", "Full validation of step 100 begins")
    events = [
        {**event(100), "id": f"m{n}", "created_at": T0 + n, "message": text}
        for n, text in enumerate(texts)
    ]
    stage.api.put(body("succeeded"), events=events)
    await stage.finish()
    assert [line.partition(" ")[2] for line in stage.run.output] == list(texts)


async def test_value_is_in_the_run_ten_minutes_later_when_it_was_listed_late(stage: Stage) -> None:
    """Minutes late, and behind more than a page of newer events."""
    job = stage.api.put(body(), events=[event(n, train_loss=0.5) for n in range(300, 0, -1)])
    stage.now = T0 + 301
    await stage.tick()
    job.events.insert(120, {**event(1000, valid_loss=0.4), "created_at": T0 + 180})
    pages = []
    for n in range(11):
        stage.now += 60
        job.events.insert(0, {**event(301 + n, train_loss=0.5), "created_at": int(stage.now) - 1})
        before = stage.api.calls.count("list_events")
        await stage.tick()
        pages.append(stage.api.calls.count("list_events") - before)
    assert (1000, "valid_loss", 0.4) in stage.values()
    assert pages == [1] * 9 + [4, 1]
