"""The summary: last and best values however rows come, times, and its way through storage."""

import math
from typing import Any

import orjson

from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.relay.published.rows import Checkpoint, Row, parse_event
from finetune_wandb.relay.run.cost import Meter
from finetune_wandb.relay.run.summary import Summary

T0 = 1_764_000_000


def job(status: str = "succeeded", **more: Any) -> Job:
    raw = {"id": "j", "status": status, "created_at": T0, "finished_at": T0 + 100, **more}
    found = parse_job(raw)
    assert found is not None
    return found


def shown(summary: Summary, of: Job | None = None, rows: int = 0) -> dict[str, Any]:
    return summary.render(of or job(), rows=rows, last_at=None, meter=Meter())


def stored(summary: Summary) -> Summary:
    return Summary.load(orjson.loads(orjson.dumps(summary.dump())))


def test_last_value_is_of_the_highest_step_when_rows_come_late() -> None:
    summary = Summary()
    summary.take_rows([Row(5, {"train_loss": 1.0}), Row(9, {"train_loss": 0.5})])
    summary = stored(summary)
    summary.take_rows([Row(7, {"train_loss": 0.7, "valid_loss": 3.0})])
    found = shown(summary, rows=3)
    assert (found["train_loss"], found["valid_loss"], found["step"]) == (0.5, 3.0, 9)
    assert found["_step"] == 2


def test_best_is_low_for_losses_and_high_for_scores_when_both_are_there() -> None:
    summary = Summary()
    for step, loss, accuracy, reward in ((10, 3.0, 0.5, 1), (20, 1.0, 0.9, 3), (30, 1.0, 0.7, 2)):
        values = {
            "valid_loss": loss,
            "valid_mean_token_accuracy": accuracy,
            "valid_reward_mean": reward,
            "valid_other": 1.0,
            "train_loss": loss,
        }
        summary.take_rows([Row(step, values)])
        summary = stored(summary)
    found = shown(summary)
    assert (found["best/valid_loss"], found["best/valid_loss_step"]) == (1.0, 20)
    assert found["best/valid_mean_token_accuracy_step"] == 20
    assert found["best/valid_reward_mean"] == 3
    assert "best/train_loss" not in found
    assert "best/valid_other" not in found


def test_last_validation_has_its_step_when_training_goes_on_behind_it() -> None:
    summary = Summary()
    summary.take_rows([Row(4, {"valid_loss": 1.0}), Row(8, {"valid_loss": 2.0, "train_loss": 1})])
    summary = stored(summary)
    summary.take_rows([Row(9, {"train_loss": 1})])
    found = shown(summary)
    assert (found["valid_loss"], found["last/valid_loss_step"], found["step"]) == (2.0, 8, 9)
    assert (found["best/valid_loss"], found["best/valid_loss_step"]) == (1.0, 4)
    assert "last/train_loss_step" not in found


def test_infinity_survives_storage_when_a_loss_explodes() -> None:
    summary = Summary()
    summary.take_rows([Row(1, {"train_loss": math.inf, "valid_loss": -math.inf})])
    summary = stored(stored(summary))
    summary.take_rows([Row(2, {"valid_loss": 4.0, "train_loss": 2.0})])
    assert shown(summary)["best/valid_loss"] == -math.inf
    assert summary.losses == (math.inf, 2.0, 2.0)


def test_state_stays_as_it_was_when_more_is_taken() -> None:
    summary = Summary()
    summary.take_rows([Row(1, {"train_loss": 3.0, "valid_loss": 3.0})])
    state = summary.dump()
    text = orjson.dumps(state)
    summary.take_rows([Row(2, {"train_loss": 1.0, "valid_loss": 1.0})])
    assert orjson.dumps(state) == text


def test_times_are_shown_when_the_events_tell_them() -> None:
    summary = Summary()
    events = [
        parse_event({"id": "0", "created_at": T0 + 10, "message": "Job started."}),
        parse_event({"id": "a", "created_at": T0 + 30, "message": "Training started."}),
        parse_event({"id": "b", "created_at": T0 + 90, "message": "Training hours billed: 1.25"}),
        parse_event({"id": "c", "created_at": T0 + 90, "message": "Training tokens billed: 700"}),
    ]
    summary.take_events([event for event in events if event])
    found = shown(stored(summary))
    assert (found["queue_seconds"], found["preprocessing_seconds"]) == (10, 20)
    assert (found["training_seconds"], found["total_seconds"]) == (70, 100)
    assert (found["billed_hours"], found["billed_tokens"]) == (1.25, 700)


def test_times_are_left_out_when_they_contradict_each_other() -> None:
    summary = Summary.load({"usage": {"phases": [[T0 + 500.0, 3]]}})
    found = shown(summary, job(finished_at=T0 - 100))
    assert not {"training_seconds", "total_seconds"} & set(found)
    assert found["_runtime"] >= 0


def test_queue_state_is_shown_until_the_training_begins() -> None:
    summary = Summary()
    queued = parse_event({"id": "0", "created_at": T0 + 10, "message": "Job enqueued."})
    started = parse_event({"id": "1", "created_at": T0 + 30, "message": "Training started."})
    assert queued is not None
    assert started is not None
    summary.take_events([queued])
    pending = job("pending", finished_at=None)
    assert shown(summary, pending)["queue_state"] == "queued"
    before = summary.facts_hash(pending)
    summary.take_events([started])
    assert "queue_state" not in shown(summary, pending)
    assert summary.facts_hash(pending) != before


def test_state_of_another_version_loads_when_it_has_more_or_less() -> None:
    summary = Summary.load({"unknown": 1, "usage": {"other": 2}, "last": {"train_loss": [3, 1.0]}})
    assert shown(summary)["train_loss"] == 1.0
    assert shown(Summary.load({})).get("train_loss") is None


def test_checkpoints_say_how_many_steps_there_will_be() -> None:
    summary = Summary()
    summary.take_rows([Row(60, {"train_loss": 1.0})])
    running = job("running", hyperparameters={"n_epochs": 3})
    points = [Checkpoint(step, "", {"train_loss": 1.0}) for step in (20, 40)]
    summary.take_checkpoints(points, running, "")
    assert summary.progress(running) == 1.0
    summary = Summary()
    summary.take_rows([Row(30, {"train_loss": 1.0})])
    summary.take_checkpoints(points[:1], running, "")
    assert summary.progress(running) == 0.5
