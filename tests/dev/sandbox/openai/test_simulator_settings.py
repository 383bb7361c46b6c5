"""The simulator's settings, and what they do to the length and the numbers of a job."""

import random
import time
from typing import Any

import pytest

from dev.sandbox.openai.job_request import JobRequest, schedule
from dev.sandbox.openai.job_store import AccountJobs, StoredFile
from dev.sandbox.openai.simulator_settings import SimulatorSettings, changed
from dev.sandbox.openai.training import Training

ROW = b'{"messages": []}\n'


def _request(**changes: Any) -> JobRequest:
    fields: dict[str, Any] = {
        "model": "gpt-4o",
        "training_file": "file-t",
        "validation_file": None,
        "method": "supervised",
        "hyperparameters": {},
        "grader": None,
        "suffix": None,
        "seed": None,
        "integrations": None,
        "metadata": None,
        "training_type": None,
    }
    return JobRequest(**(fields | changes))


def _train(settings: SimulatorSettings, rows: int = 10, **changes: Any) -> list[bytes]:
    """Play a job to its end at once and return its metric events, oldest first."""
    account = AccountJobs()
    account.files["file-t"] = StoredFile("file-t", "t.jsonl", "fine-tune", ROW * rows)
    rng = random.Random(settings.seed)
    training = Training(account, _request(**changes), rng, lambda: settings, 1000.0)
    training.advance(10_000.0)
    assert training.status == "succeeded"
    items = training.job.events.page(None, 10_000).items[::-1]
    return [item for item in items if b'"metrics"' in item]


@pytest.mark.parametrize(
    ("rows", "asked", "steps", "per_epoch"),
    [
        (10, {}, 100, 10),
        (50, {}, 150, 50),
        (1000, {}, 1500, 500),
        (30, {"batch_size": 7, "n_epochs": 2}, 10, 5),
        (1, {"n_epochs": 1}, 1, 1),
        (100_000, {"batch_size": 1, "n_epochs": 3}, 1998, 666),
    ],
)
def test_steps_follow_from_rows_batch_and_epochs(
    rows: int, asked: dict[str, Any], steps: int, per_epoch: int
) -> None:
    plan = schedule(_request(hyperparameters=asked), rows, 2000)
    assert (plan.total_steps, plan.steps_per_epoch) == (steps, per_epoch)
    assert plan.hyperparameters.items() >= asked.items()


def _numbers(events: list[bytes]) -> list[bytes]:
    return [event[event.index(b'"data"') :] for event in events]


def test_metrics_repeat_when_the_seed_does() -> None:
    fast = SimulatorSettings(seconds_per_step=0.01)
    assert _numbers(_train(fast)) == _numbers(_train(fast))
    other = SimulatorSettings(seconds_per_step=0.01, seed=2)
    assert _numbers(_train(fast)) != _numbers(_train(other))
    assert _numbers(_train(fast, seed=5)) != _numbers(_train(fast))


def test_job_is_bounded_when_the_file_is_large() -> None:
    settings = SimulatorSettings(seconds_per_step=0.01, max_steps=50)
    hyperparameters = {"batch_size": 1, "n_epochs": 2}
    assert len(_train(settings, rows=5000, hyperparameters=hyperparameters)) == 50


def test_job_ends_at_once_when_every_wait_is_nought() -> None:
    settings = SimulatorSettings(seconds_per_step=0, queue_seconds=0, finish_seconds=0)
    assert len(_train(settings)) == 100


def test_events_are_dated_by_when_they_were_due() -> None:
    settings = SimulatorSettings(seconds_per_step=0.25, queue_seconds=2, finish_seconds=0)
    events = _train(settings, hyperparameters={"n_epochs": 1, "batch_size": 1})
    dates = [int(event.split(b'"created_at":')[1][:4]) for event in events]
    assert dates == [1002, 1002, 1002, 1003, 1003, 1003, 1003, 1004, 1004, 1004]


def test_clock_costs_little_when_many_jobs_wait() -> None:
    settings = SimulatorSettings(queue_seconds=1e6)
    account = AccountJobs()
    account.files["file-t"] = StoredFile("file-t", "t.jsonl", "fine-tune", ROW)
    rng = random.Random(1)
    trainings = [Training(account, _request(), rng, lambda: settings, 0.0) for _ in range(1000)]
    started = time.process_time()
    for training in trainings:
        training.advance(5.0)
    assert time.process_time() - started < 0.1


def test_settings_keep_what_a_body_leaves_out() -> None:
    settings = changed(SimulatorSettings(), {"seconds_per_step": 1, "seed": 9})
    assert (settings.seconds_per_step, settings.seed) == (1.0, 9)
    assert changed(settings, {"queue_seconds": 0}).seed == 9


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"speed": 1}, "speed"),
        ({"seconds_per_step": -1}, "seconds_per_step"),
        ({"seconds_per_step": "1"}, "seconds_per_step"),
        ({"queue_seconds": True}, "queue_seconds"),
        ({"seed": 1.5}, "seed"),
        ({"max_steps": 0}, "max_steps"),
        ({"result_encoding": "zip"}, "result_encoding"),
        ({"result_placeholder": "nan"}, "result_placeholder"),
        ([], "the body"),
    ],
)
def test_settings_name_the_field_when_a_body_is_wrong(body: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        changed(SimulatorSettings(), body)


def test_step_takes_its_whole_time_when_a_pause_cuts_it() -> None:
    settings = SimulatorSettings(seconds_per_step=10, queue_seconds=2)
    account = AccountJobs()
    account.files["file-t"] = StoredFile("file-t", "t.jsonl", "fine-tune", ROW * 10)
    training = Training(account, _request(), random.Random(1), lambda: settings, 1000.0)
    training.pause(1006.0)  # running since 1002, so 6 seconds of the first step are left
    training.resume(2000.0)  # waits in the queue until 2001
    training.advance(2006.9)
    assert b"Step 1:" not in training.job.events.everything()
    training.advance(2007.0)
    assert b"Step 1:" in training.job.events.everything()
