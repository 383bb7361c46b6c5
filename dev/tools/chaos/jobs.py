"""A fine-tuning job as Azure might play it, in a few puts to the sandbox, from a seed.

Events come in bunches, some of them late and out of step order; the listing may be newest
first, with ties in the order of writing or not, in no order at all, repeat itself, and have tiny
pages. Result files may contradict the events. What is published stays published.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

from dev.tools.demo.values import Published, published

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """(second, body of a put) in order; how the job ends; all that it publishes."""

    puts: list[tuple[float, Json]]
    status: str
    published: Published
    disputed: bool = False
    """The result file has other numbers for some values than the events had."""


def story(rng: random.Random, job_id: str, now: float, span: float) -> Story:
    """Return the job's story; it is over before `span` seconds have passed."""
    steps = rng.choice((3, 12, 40, 120))
    status = rng.choices(("succeeded", "failed", "cancelled"), (6, 2, 1))[0]
    events = _events(rng, job_id, steps, int(now))
    shape: Json = {
        "order": rng.choice(("newest", "written", "written", "given")),
        "page_size": rng.choice((None, None, 2, 7)),
    }
    began, over = rng.uniform(0, 3), rng.uniform(span - 2.5, span - 0.5)
    puts = [(began, {"job": _job(job_id, rng.choice(("pending", "queued")), now)})]
    count = rng.randint(1, 5)
    shown = 0
    for number in range(count):
        at = began + 0.5 + (over - began - 0.5) * (number + rng.random() * 0.8) / count
        shown = len(events) * (number + 1) // (count + 1)
        listed = _listed(rng, events[:shown], shape["order"])
        puts.append((at, {"job": _job(job_id, "running", now), "events": listed, **shape}))
    final: Json = {
        "job": _job(job_id, status, now),
        "events": _listed(rng, events, shape["order"]),
        **shape,
    }
    disputed = False
    if status == "succeeded":
        final["checkpoints"] = _checkpoints(job_id, events, now)
        if rng.random() < 0.7:
            disputed = rng.random() < 0.3
            final["result_csv"] = _result(rng, events, steps, disputed=disputed)
            final["result_encoding"] = rng.choice(("plain", "base64"))
    puts.append((over, final))
    text = final.get("result_csv", "").encode()
    found = published(events, final.get("checkpoints", ()), text)
    return Story(puts, status, found, disputed)


def shown_by(put: Json) -> Published:
    """Return the values that are published once this put was made."""
    text = put.get("result_csv", "").encode()
    return published(put.get("events", ()), put.get("checkpoints", ()), text)


def _job(job_id: str, status: str, now: float) -> Json:
    over = status in ("succeeded", "failed", "cancelled")
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "created_at": int(now) - 100,
        "finished_at": int(now) + 20 if over else None,
        "status": status,
        "model": "gpt-4.1-mini-2025-04-14",
        "fine_tuned_model": f"ft:{job_id}" if status == "succeeded" else None,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "training_file": "file-training",
        "result_files": [],
        "error": {"code": "bad_data", "message": "made to fail"} if status == "failed" else None,
    }


def _events(rng: random.Random, job_id: str, steps: int, now: int) -> list[Json]:
    """Return the events in the order in which Azure comes to show them."""
    found: list[Json] = [_message(job_id, 0, now - 90, "Training started.")]
    for step in range(1, steps + 1):
        loss = 2 * math.exp(-step / 30) + rng.random() / 100
        data: Json = {"step": step, "total_steps": steps, "train_loss": loss}
        data["train_mean_token_accuracy"] = 1 - loss / 3
        if step % 10 == 0:
            data["valid_loss"] = loss + 0.25
            data["scores"] = {"graders": [{"name": "basic", "reward_mean": loss / 2}]}
        found.append(
            {
                "id": f"ftevent-{job_id}-{step}",
                "object": "fine_tuning.job.event",
                "created_at": now - 80 + step // 2,
                "level": "info",
                "message": f"Step {step}: training loss={loss:.4f}",
                "type": "metrics",
                "data": data,
            }
        )
    for place in range(1, len(found) - 1):
        if rng.random() < 0.1:  # it turns up later than its time says
            other = min(place + rng.randint(1, 15), len(found) - 1)
            found[place], found[other] = found[other], found[place]
    found.append(_message(job_id, steps + 1, now, "The job is over."))
    return found


def _message(job_id: str, number: int, at: int, text: str) -> Json:
    return {
        "id": f"ftevent-{job_id}-message-{number}",
        "object": "fine_tuning.job.event",
        "created_at": at,
        "level": "info",
        "message": text,
        "type": "message",
    }


def _listed(rng: random.Random, events: list[Json], order: str) -> list[Json]:
    """Return the events as a listing shows them: some twice, and in any order where it is given."""
    listed = [*events, *(event for event in events if rng.random() < 0.05)]
    if order == "given":
        rng.shuffle(listed)
    return listed


def _checkpoints(job_id: str, events: list[Json], now: float) -> list[Json]:
    last = [event["data"] for event in events if "data" in event][-1:]
    return [
        {
            "id": f"ftckpt-{job_id}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": int(now),
            "fine_tuned_model_checkpoint": f"ft:{job_id}:ckpt",
            "step_number": data["step"],
            "metrics": {"step": data["step"], "full_valid_loss": data["train_loss"] + 0.5},
        }
        for data in last
    ]


def _result(rng: random.Random, events: list[Json], steps: int, *, disputed: bool) -> str:
    """Return the result file: every step once more, some steps that no event had, one column more."""
    losses = {
        event["data"]["step"]: event["data"]["train_loss"] for event in events if "data" in event
    }
    lines = ["step,train_loss,train_accuracy,valid_loss,full_valid_loss"]
    for step in range(1, steps + 1 + rng.randint(0, 5)):
        loss = losses.get(step, 0.5) + (disputed and step == 2)
        more = f"{loss + 0.75}" if step % 20 == 0 else ""
        lines.append(
            f"{step},{loss!r},{1 - loss / 3!r},{'-1' if step % 10 else loss + 0.25},{more}"
        )
    return "\n".join(lines) + "\n"
