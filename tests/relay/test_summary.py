"""The summary: last and best values however rows come, times, and its way through storage."""

import math
from typing import Any

import orjson
import pytest

from finetune_wandb.model.job import Job
from finetune_wandb.model.job_object import parse_job
from finetune_wandb.relay.published.events import parse_event
from finetune_wandb.relay.published.rows import Row
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
    return Summary(orjson.loads(orjson.dumps(summary.state())))


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
    state = summary.state()
    text = orjson.dumps(state)
    summary.take_rows([Row(2, {"train_loss": 1.0, "valid_loss": 1.0})])
    assert orjson.dumps(state) == text


@pytest.mark.parametrize(
    "message",
    ["Job started", "Training started", "Fine-tuning job started.", "fine tuning job started"],
)
def test_times_are_told_when_the_events_tell_them(message: str) -> None:
    summary = Summary()
    events = [
        parse_event({"id": "a", "created_at": T0 + 30, "message": message}),
        parse_event({"id": "b", "created_at": T0 + 90, "message": "Training hours billed: 1.25"}),
        parse_event({"id": "c", "created_at": T0 + 91, "message": "Training hours billed: ."}),
    ]
    summary.take_events([event for event in events if event])
    found = shown(stored(summary))
    assert (found["queue_seconds"], found["training_seconds"]) == (30, 70)
    assert (found["total_seconds"], found["billed_hours"]) == (100, 1.25)


def test_times_are_left_out_when_they_contradict_each_other() -> None:
    summary = Summary({"started_at": T0 + 500.0})
    found = shown(summary, job(finished_at=T0 - 100))
    assert not {"training_seconds", "total_seconds"} & set(found)
    assert found["_runtime"] >= 0
