"""Jobs and events in the shapes of the fine-tuning API, and the values that they publish."""

import math
import time
import uuid
from collections.abc import Mapping
from typing import Any

from dev.tools.demo.cloud import Json
from dev.tools.demo.values import Published, published


def published_by(body: Mapping[str, Any]) -> Published:
    """Return the values in a body of `put_job`."""
    return published(
        body.get("events", ()), body.get("checkpoints", ()), body.get("result_csv", "").encode()
    )


def job_object(job_id: str, status: str, **more: Any) -> Json:
    """Return a supervised job of the v1 API, created a minute ago."""
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "created_at": int(time.time()) - 60,
        "status": status,
        "model": "gpt-4.1-mini-2025-04-14",
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
        },
        "training_file": "file-training",
        "validation_file": "file-validation",
        "result_files": [],
        "seed": 7,
        **more,
    }


def metric_events(job_id: str, last: int, first: int = 1) -> list[Json]:
    """Return the metric events of steps `first` to `last`, oldest first, validated every 5."""
    start = int(time.time()) - 50
    events: list[Json] = []
    for step in range(first, last + 1):
        loss = 2 * math.exp(-step / 10)
        data = {"step": step, "total_steps": 40, "train_loss": loss}
        data["train_mean_token_accuracy"] = 1 - loss / 3
        if step % 5 == 0:
            data["valid_loss"] = loss + 0.25
        events.append(
            {
                "id": f"ftevent-{job_id}-{step}",
                "object": "fine_tuning.job.event",
                "created_at": start + step,
                "level": "info",
                "message": f"Step {step}: training loss={loss}",
                "type": "metrics",
                "data": data,
            }
        )
    return events


def message_event(job_id: str, at: int, message: str, level: str = "info") -> Json:
    """Return an event that carries no metrics, `at` seconds from now."""
    return {
        "id": f"ftevent-{job_id}-{uuid.uuid4().hex}",
        "object": "fine_tuning.job.event",
        "created_at": int(time.time()) + at,
        "level": level,
        "message": message,
        "type": "message",
    }
