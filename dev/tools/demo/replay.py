"""A job that ran in Azure, played back: the objects of Microsoft's own tutorial where they are.

Without them, a job of the same shapes with numbers of our own. Both start pending with nulls and
placeholders, list their events newest first, and keep the times at which they happened.
"""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]
SAMPLES: Final = Path("shared") / "samples"
_FILES: Final = (
    "07_azure_tutorial_job_pending.json",
    "08_azure_tutorial_events_page.json",
    "09_azure_tutorial_checkpoints.json",
)


@dataclass(frozen=True, slots=True)
class Replay:
    """One job's objects. `stages` are bodies for the sandbox's control path, in order."""

    job_id: str
    source: str
    stages: tuple[Json, ...]


def load(folder: Path) -> Replay:
    """Return the tutorial's job from `folder`, or one of our own where a file is not there."""
    try:
        job, page, marks = (json.loads((folder / name).read_text()) for name in _FILES)
    except FileNotFoundError:
        return _replay(*_made_up(), source="a job of the same shapes with made-up numbers")
    return _replay(job, page["data"], marks["data"], source="the job of Microsoft's tutorial")


def _replay(job: Json, events: list[Json], checkpoints: list[Json], *, source: str) -> Replay:
    """Play a pending job with its later events in three stages: pending, half way, succeeded."""
    oldest_first = sorted(events, key=_moment)
    ended = max(int(event["created_at"]) for event in events)
    half = [event for event in oldest_first if event["type"] == "metrics"][:3]
    model = f"{job['model']}.ft-{job['id'].removeprefix('ftjob-')}"
    # The tutorial shows the checkpoints of an earlier run of the same job.
    marks = [{**mark, "fine_tuning_job_id": job["id"]} for mark in checkpoints]
    done = {"status": "succeeded", "finished_at": ended, "fine_tuned_model": model}
    return Replay(
        job["id"],
        source,
        (
            {"job": job, "events": []},
            {"job": {**job, "status": "running"}, "events": half},
            {
                "job": {**job, **done, "trained_tokens": 21_600},
                "events": events,
                "checkpoints": marks,
                "result_csv": _result_csv(events),
            },
        ),
    )


def _moment(event: Json) -> tuple[int, int]:
    return event["created_at"], (event.get("data") or {}).get("step", -1)


def _result_csv(events: list[Json]) -> str:
    """Return a result file to these events: Azure's other spelling, -1 for "not measured".

    The tutorial does not show its file, so the steps between the events are made up.
    """
    columns = {
        "step": "step",
        "train_loss": "train_loss",
        "train_accuracy": "train_mean_token_accuracy",
        "valid_loss": "valid_loss",
        "validation_mean_token_accuracy": "valid_mean_token_accuracy",
    }
    measured = {event["data"]["step"]: event["data"] for event in events if event.get("data")}
    lines = [",".join(columns)]
    for step in range(1, max(measured) + 1):
        between = {"step": step, "train_loss": round(2.0 * math.exp(-step / 25), 6)}
        data = measured.get(step, between)
        lines.append(",".join(str(data.get(name, -1)) for name in columns.values()))
    return "\n".join(lines) + "\n"


def _made_up() -> tuple[Json, list[Json], list[Json]]:
    rng = random.Random(20)
    began = 1_790_000_000
    job_id = f"ftjob-{rng.randbytes(16).hex()}"
    job = {
        "id": job_id,
        "created_at": began,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": 1},
        "model": "gpt-4o-mini-2024-07-18",
        "object": "fine_tuning.job",
        "organization_id": None,
        "result_files": None,
        "seed": 42,
        "status": "pending",
        "trained_tokens": None,
        "training_file": f"file-{rng.randbytes(16).hex()}",
        "validation_file": f"file-{rng.randbytes(16).hex()}",
        "estimated_finish": None,
        "integrations": None,
    }

    def event(at: int, message: str, data: Json | None = None) -> Json:
        return {
            "id": f"ftevent-{rng.randbytes(16).hex()}",
            "created_at": began + at,
            "level": "info",
            "message": message,
            "object": "fine_tuning.job.event",
            "type": "metrics" if data else "message",
            **({"data": data} if data else {}),
        }

    events, checkpoints = [], []
    for step in range(50, 101, 10):
        loss = 0.4 * math.exp(-step / 30) * rng.uniform(0.8, 1.2)
        data = {
            "step": step,
            "train_loss": loss,
            "train_mean_token_accuracy": 1 if step > 80 else 0.9,
            "valid_loss": 0.8 + step / 200,
            "valid_mean_token_accuracy": 0.75,
            "full_valid_loss": 1.2 + step / 250,
            "full_valid_mean_token_accuracy": 0.72,
        }
        events.append(event(1400 + step, f"Step {step}: training loss={loss}", data))
        if step >= 80:
            model = f"{job['model']}.ft-{job_id.removeprefix('ftjob-')}"
            checkpoints.append(
                {
                    "id": f"ftchkpt-{rng.randbytes(16).hex()}",
                    "created_at": began + 1500 + step,
                    "fine_tuned_model_checkpoint": model
                    if step == 100
                    else f"{model}:ckpt-step-{step}",
                    "fine_tuning_job_id": job_id,
                    "metrics": {name: float(value) for name, value in data.items()},
                    "object": "fine_tuning.job.checkpoint",
                    "step_number": step,
                }
            )
    events.append(event(2188, "Job succeeded."))
    events.append(event(2222, "Postprocessing started."))
    events.append(event(2224, "Training hours billed: 0.500"))
    return job, events[::-1], checkpoints[::-1]
