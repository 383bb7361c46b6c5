"""The scenario table: what a job of each kind publishes, phase by phase, and how its run ends.

Bodies are those of the sandbox's control path. Jobs were made hours ago, so that the relay does
not wait minutes for late values, unless a scenario is about those.
"""

import copy
import math
import time
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
NOW = int(time.time())
MADE = NOW - 8 * 3600
OVER = NOW - 5 * 3600
TEXT_MODEL, REASONING, OTHER = "gpt-4.1-mini-2025-04-14", "o4-mini-2025-04-16", "Ministral-3B"


@dataclass
class Scenario:
    """One job. Each phase completes the one before."""

    name: str
    phases: list[Json]
    state: str = "finished"
    tags: tuple[str, ...] = ()
    config: Json = field(default_factory=dict)
    """Config entries that the run must have, by name."""
    summary: Json = field(default_factory=dict)
    display_name: str = ""
    notes: tuple[str, ...] = ()
    """Parts of notes that the job's status must have."""
    account: str = ""

    @property
    def job_id(self) -> str:
        return f"ftjob-{self.name}"

    @property
    def last(self) -> Json:
        """Everything that was published in the end."""
        whole: Json = {}
        for phase in self.phases:
            whole.update(phase)
        return whole


def make_job(status: str = "succeeded", **more: Any) -> Json:
    over = {"finished_at": OVER} if status in ("succeeded", "failed", "cancelled") else {}
    done = {"fine_tuned_model": "ft:model", "trained_tokens": 4242} if status == "succeeded" else {}
    return {
        "object": "fine_tuning.job",
        "created_at": MADE,
        "status": status,
        "model": TEXT_MODEL,
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}},
        },
        "training_file": "file-train",
        "validation_file": "file-valid",
        "result_files": [],
        "seed": 42,
        **over,
        **done,
        **more,
    }


def event(step: int, data: Json, **more: Any) -> Json:
    return {
        "id": f"ftevent-{step}",
        "object": "fine_tuning.job.event",
        "created_at": MADE + 600 + step * 10,
        "level": "info",
        "message": f"Step {step}",
        "type": "metrics",
        "data": {"step": step, "total_steps": 20, **data},
        **more,
    }


def said(text: str, at: int, level: str = "info", identifier: str = "") -> Json:
    return {
        "id": identifier or f"ftevent-m{at}",
        "object": "fine_tuning.job.event",
        "created_at": MADE + at,
        "level": level,
        "message": text,
        "type": "message",
    }


def sft(step: int) -> Json:
    loss = 2 * math.exp(-step / 9)
    data = {"train_loss": loss, "train_mean_token_accuracy": 1 - loss / 3}
    if step % 4 == 0:
        data |= {"valid_loss": loss + 0.2, "valid_mean_token_accuracy": 0.9 - loss / 3}
    if step % 10 == 0:
        data |= {"full_valid_loss": loss + 0.1, "full_valid_mean_token_accuracy": 0.8}
    return data


def dpo(step: int) -> Json:
    return {
        "train_loss": 0.7 / step,
        "train_rewards/margins": step / 10 - 1,
        "train_rewards/chosen": -1,
        "train_logps/rejected": -120.5 - step,
        "train_rewards/accuracies": 0.5 + step / 50,
    }


def rft(step: int) -> Json:
    return {
        "scores": {
            "train_reward_mean": step / 40,
            "valid_reward_mean": -1 if step == 3 else step / 44,
            "graders": [
                {"name": "format", "train_reward_mean": 0.5, "valid_reward_mean": None},
                {"name": "größe", "train_reward_mean": step / 60},
                {"train_reward_mean": 0.25},
            ],
        },
        "usage": {"samples": {"train_reasoning_tokens_mean": 900 + step, "tool_calls_mean": 1.5}},
        "errors": {"graders": [{"name": "format", "train_sample_parse_error_count": step % 3}]},
        "timing": {"step": {"seconds": 30.5}, "tool_latency_ms": 12},
        "train_mean_reward": step / 40,
    }


def events_of(kind: Any = sft, last: int = 20, first: int = 1) -> list[Json]:
    return [event(step, kind(step)) for step in range(first, last + 1)]


def result(last: int = 20, *, old: bool = False, gap: str = "", extra: str = "") -> str:
    accuracy = ("train_accuracy", "validation_mean_token_accuracy")
    new = ("train_mean_token_accuracy", "valid_mean_token_accuracy")
    names = accuracy if old else new
    lines = [f"step,train_loss,{names[0]},valid_loss,{names[1]}{',note' if extra else ''}"]
    for step in range(1, last + 1):
        data = sft(step)
        cells = [data["train_loss"], data["train_mean_token_accuracy"]]
        cells += [data.get("valid_loss", gap), data.get("valid_mean_token_accuracy", gap)]
        lines.append(",".join(str(cell) for cell in (step, *cells)) + (extra and f",{extra}"))
    return "\n".join(lines) + "\n"


CHECKPOINTS = [
    {
        "id": f"ftchkpt-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": MADE + 600 + step * 10,
        "fine_tuned_model_checkpoint": f"ft:model:ckpt-step-{step}",
        "step_number": step,
        "metrics": {
            "step": float(step),
            "full_valid_loss": 1 / step,
            "train_loss": sft(step)["train_loss"],
        },
    }
    for step in (5, 10, 20)
]
DPO = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "n_epochs": 2}}}
RFT = {
    "type": "reinforcement",
    "reinforcement": {
        "grader": {"type": "python", "name": "g", "source": "SECRET_SOURCE = 1"},
        "hyperparameters": {"reasoning_effort": "medium", "eval_interval": 5},
    },
}


def _ends(name: str, method: Json, kind: Any, model: str) -> list[Scenario]:
    """Return one method's jobs with every outcome."""
    whole, part = events_of(kind), events_of(kind, 8)
    error = {"code": "training_failed", "message": "Loss is not a number at step 9"}
    queued = {
        "job": make_job("pending", model=model, method=method),
        "events": [said("Job enqueued", 1)],
    }
    running = {
        "job": make_job("running", model=model, method=method),
        "events": [said("Job enqueued", 1), said("Training started.", 500), *part],
    }

    def job(status: str, **more: Any) -> Json:
        return {"job": make_job(status, model=model, method=method, **more)}

    def end(*more: Json) -> list[Json]:
        return [said("Job enqueued", 1), said("Training started.", 500), *more]

    common: Json = {"config": {"model": model, "method": method["type"]}}
    return [
        Scenario(
            f"{name}-succeeded",
            [
                queued,
                running,
                {**job("succeeded"), "events": end(*whole), "checkpoints": CHECKPOINTS},
            ],
            summary={
                "status": "succeeded",
                "fine_tuned_model": "ft:model",
                "trained_tokens": 4242,
                "best_checkpoint/step": 20,
                "best_checkpoint/model": "ft:model:ckpt-step-20",
                "queue_seconds": 500,
                "total_seconds": OVER - MADE,
            },
            **common,
        ),
        Scenario(
            f"{name}-failed",
            [
                running,
                {
                    **job("failed", error=error),
                    "events": end(*part, said("Loss is not a number", 900, "error")),
                },
            ],
            state="failed",
            summary={
                "status": "failed",
                "error_code": error["code"],
                "error_message": error["message"],
            },
            **common,
        ),
        Scenario(
            f"{name}-cancelled",
            [running, {**job("cancelled"), "events": end(*part, said("Job cancelled", 900))}],
            state="failed",
            tags=("cancelled",),
            summary={"status": "cancelled"},
            **common,
        ),
        Scenario(
            f"{name}-resumed",
            [running, job("paused"), job("resuming"), {**job("succeeded"), "events": end(*whole)}],
            summary={"status": "succeeded"},
            **common,
        ),
        Scenario(
            f"{name}-preempted",
            [
                running,
                job("preempted"),
                {**job("pending")},
                {**job("succeeded"), "events": end(*whole)},
            ],
            summary={"status": "succeeded"},
            **common,
        ),
    ]


def outcomes() -> list[Scenario]:
    """Return every method with every outcome."""
    supervised = make_job()["method"]
    return [
        *_ends("sft", supervised, sft, TEXT_MODEL),
        *_ends("dpo", DPO, dpo, TEXT_MODEL),
        *_ends("rft", RFT, rft, REASONING),
        *_ends("other", supervised, sft, OTHER),
    ]


def separate(scenarios: list[Scenario]) -> list[Scenario]:
    """Return copies that share nothing; event ids are a service's own, so no two jobs share one."""
    made = [copy.deepcopy(one) for one in scenarios]
    for scenario in made:
        for phase in scenario.phases:
            if "events" in phase:
                phase["events"] = [
                    {**one, "id": f"{one['id']}-{scenario.name}"} for one in phase["events"]
                ]
    return made
