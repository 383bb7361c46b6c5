"""What the benchmarks' jobs publish: deterministic, shaped like the live service's answers.

Losses fall and validation comes every tenth step. Nothing here is random, so two passes over
the same job send the same bytes.
"""

import math
from functools import cache
from typing import Any, Final

from dev.tools.demo.values import Published, published

Json = dict[str, Any]

BORN: Final = 1_760_000_000
"""Creation of every job (unix seconds): long enough ago that nothing is waited for."""
_COLUMNS: Final = ("train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def job_object(job: str, status: str, *, result_files: list[str] | None = None) -> Json:
    """Return a supervised job as the v1 API words it; the end comes with a terminal status."""
    ended = status == "succeeded"
    hyperparameters = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
    return {
        "id": job,
        "object": "fine_tuning.job",
        "created_at": BORN,
        "finished_at": BORN + 100_000 if ended else None,
        "status": status,
        "model": "gpt-4.1-mini-2025-04-14",
        "fine_tuned_model": f"gpt-4.1-mini-2025-04-14.ft-{job}" if ended else None,
        "organization_id": "",
        "training_file": "file-training",
        "validation_file": "file-validation",
        "result_files": result_files or [],
        "trained_tokens": 1_234_567 if ended else None,
        "hyperparameters": hyperparameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "integrations": [],
        "metadata": {},
        "error": None,
        "estimated_finish": None,
        "seed": 7,
    }


def values_at(step: int) -> Json:
    """Return the metrics of one step, under the names that events use."""
    loss = 2.5 * math.exp(-step / 400) + 0.2 + 0.05 * math.sin(step)
    values: Json = {"train_loss": loss, "train_mean_token_accuracy": 1 - loss / 3}
    if step % 10 == 0:
        values |= {"valid_loss": loss + 0.1, "valid_mean_token_accuracy": 0.97 - loss / 3}
    return values


def metric_events(job: str, last: int, first: int = 1) -> list[Json]:
    """Return the metric events of steps `first` to `last`, newest first, as they are listed."""
    return [
        {
            "id": f"ftevent-{job}-{step:07d}",
            "object": "fine_tuning.job.event",
            "created_at": BORN + 60 + step,
            "level": "info",
            "message": f"Step {step}: training loss={values['train_loss']:.4f}",
            "type": "metrics",
            "data": {"step": step, "total_steps": 1_000_000, **values},
        }
        for step in range(last, first - 1, -1)
        for values in (values_at(step),)
    ]


def checkpoints(job: str, last: int) -> list[Json]:
    """Return three checkpoints, the last of them at step `last`, newest first."""
    return [
        {
            "id": f"ftckpt-{job}-{step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": BORN + 90 + step,
            "fine_tuned_model_checkpoint": f"gpt-4.1-mini-2025-04-14.ft-{job}:ckpt-step-{step}",
            "fine_tuning_job_id": job,
            "step_number": step,
            "metrics": {
                "step": step,
                "full_valid_loss": 0.3,
                "full_valid_mean_token_accuracy": 0.9,
            },
        }
        for step in (last, last * 2 // 3, last // 3)
    ]


@cache
def live_values(last: int) -> Published:
    """Return the values that the events of steps 1 to `last` publish, the same for each job."""
    return published(metric_events("", last))


@cache
def all_values(last: int) -> Published:
    """Return the values of a job that is over: of events, checkpoints and result file."""
    return published(metric_events("", last), checkpoints("", last), result_csv(last).encode())


@cache
def result_csv(last: int) -> str:
    """Return a result file of steps 1 to `last`, in the spelling that result files use.

    Every tenth line has all four metrics, the others leave validation empty.
    """
    lines = [",".join(("step", *_COLUMNS))]
    for step in range(1, last + 1):
        values = values_at(step)
        numbers = [repr(value) for value in values.values()] + ["", ""]
        lines.append(",".join([str(step), *numbers[: len(_COLUMNS)]]))
    return "\n".join(lines) + "\n"
