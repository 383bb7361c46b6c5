"""The best checkpoint as people judge it: by the chosen metric, else by what fits the job."""

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_wandb.model.relay.job import Job
from finetune_wandb.relay.published.rows import Row, parse_checkpoint
from finetune_wandb.relay.run.cost import Meter
from finetune_wandb.relay.run.summary import Summary
from tests.relay.stage import Stage, body, event

JOB = Job("ftjob-1", "running", created_at=0.0)
RFT = replace(JOB, method="reinforcement")


def checkpoint(step: Any, model: Any = "", **metrics: Any) -> dict[str, Any]:
    model = model or f"ft:{step}"
    return {"step_number": step, "fine_tuned_model_checkpoint": model, "metrics": metrics}


THREE = [
    checkpoint(30, full_valid_loss=0.4, reward=0.5, train_accuracy=0.7),
    checkpoint(10, full_valid_loss=0.6, reward=0.9, train_accuracy=0.9),
    checkpoint("20", full_valid_loss=0.4, reward=0.1),
]
BROKEN: list[Any] = [{}, checkpoint(None, loss=1), {"step_number": 3}]
# As Azure published them (steps, validation rewards at 1, 4 and 10, a loss near zero).
REWARDED = [
    checkpoint(6, train_loss=0.0026, train_mean_reward=0.77, full_valid_loss=None),
    checkpoint(9, train_loss=-0.0006, train_mean_reward=0.84, full_valid_loss=None),
    checkpoint(12, train_loss=-0.0042, train_mean_reward=0.74, full_valid_loss=None),
]


def best(
    checkpoints: list[Any], metric: str = "", job: Job = JOB, rows: list[Row] | None = None
) -> tuple[dict[str, Any], str]:
    """Return what the summary shows of the best checkpoint, and the note."""
    summary = Summary()
    summary.take_rows(rows or [])
    parsed = [one for item in checkpoints if (one := parse_checkpoint(item))]
    note = summary.take_checkpoints(parsed, job, metric)
    shown = Summary.load(json.loads(json.dumps(summary.dump()))).render(
        job, rows=0, last_at=None, meter=Meter()
    )
    prefix = "best_checkpoint/"
    return {
        name.removeprefix(prefix): value for name, value in shown.items() if name.startswith(prefix)
    }, note


@pytest.mark.parametrize(
    ("metric", "step", "value"),
    [
        ("", 30, 0.4),
        ("full_valid_loss", 30, 0.4),
        ("reward", 10, 0.9),
        ("train_accuracy", 10, 0.9),
        ("train_mean_token_accuracy", 10, 0.9),
    ],
    ids=["usual", "low-is-best-later-of-equals", "high-is-best", "old-name", "one-vocabulary"],
)
def test_best_is_chosen_by_the_metric(metric: str, step: int, value: float) -> None:
    found, note = best([*THREE, *BROKEN], metric)
    assert (found["step"], found["value"], found["model"]) == (step, value, f"ft:{step}")
    assert note == ""


def test_usual_metric_is_used_and_noted_when_no_checkpoint_has_the_chosen_one() -> None:
    found, note = best(THREE, "valid_los")
    assert (found["step"], found["metric"]) == (30, "full_valid_loss")
    assert "BEST_CHECKPOINT_METRIC valid_los" in note
    assert "full_valid_loss" in note


def test_there_is_no_best_when_no_checkpoint_can_be_judged() -> None:
    assert best(BROKEN) == ({}, "")
    assert best([checkpoint(3, other=1.0)], "gone")[1].endswith("none is chosen")


def test_reinforcement_checkpoint_is_judged_by_the_last_validation_before_it() -> None:
    rows = [
        Row(1, {"full_valid_mean_reward": 0.95}),
        Row(4, {"full_valid_mean_reward": 0.82}),
        Row(10, {"full_valid_mean_reward": 0.87}),
    ]
    found, note = best(REWARDED, job=RFT, rows=rows)
    assert (found["step"], found["metric"], found["value"]) == (12, "full_valid_mean_reward", 0.87)
    assert note == ""
    # Before the validation at step 10, the checkpoints 6 and 9 have the one at step 4.
    found, _ = best(REWARDED[:2], job=RFT, rows=rows[:2])
    assert (found["step"], found["value"]) == (9, 0.82)


def test_reinforcement_checkpoint_is_judged_by_training_reward_when_nothing_was_validated() -> None:
    found, _ = best(REWARDED, job=RFT)
    assert (found["step"], found["metric"], found["value"]) == (9, "train_mean_reward", 0.84)


@pytest.mark.parametrize("job", [JOB, RFT], ids=["method-unknown", "reinforcement"])
def test_policy_loss_never_decides(job: Job) -> None:
    found, note = best(REWARDED, "train_loss", job=job)
    assert found["metric"] == "train_mean_reward"
    assert "BEST_CHECKPOINT_METRIC train_loss fits no checkpoint" in note
    only_loss = [checkpoint(3, train_loss=0.1)]
    assert best(only_loss, job=RFT) == ({}, "")


async def test_best_is_in_the_run_when_the_job_was_never_seen_alive() -> None:
    stage = Stage()
    events = [event(step, full_valid_mean_reward=step / 10) for step in (8, 4)]
    over = body("succeeded", method={"type": "reinforcement"})
    stage.api.put(over, events=events, checkpoints=[checkpoint(5, loss=1), checkpoint(9, loss=2)])
    await stage.tick()
    assert stage.run.summary["best_checkpoint/step"] == 9
    assert stage.run.summary["best_checkpoint/value"] == 0.8


async def test_unknown_metric_is_noted_on_the_job() -> None:
    stage = Stage()
    stage.options = replace(stage.options, best_checkpoint_metric="typo")
    stage.api.put(body("succeeded"), events=[event(1)], checkpoints=THREE)
    await stage.tick()
    assert any("BEST_CHECKPOINT_METRIC typo" in note for note in stage.cursor.notes)
    assert stage.run.summary["best_checkpoint/metric"] == "full_valid_loss"
