"""A fine-tuning job, and what its status means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
"""Statuses after which Azure publishes nothing new. Every other status, known or not, is alive.

Source: facts on the v1 and dated fine-tuning APIs; paused is stable but resumable.
"""
WAITING: Final = frozenset({"created", "pending", "queued", "validating_files", "notRunning"})
"""Statuses before training. A run in one of them is shown as pending in W&B."""
_MAX_ID: Final = 256


@dataclass(frozen=True, slots=True)
class WandbIntegration:
    """What a job says about its own W&B integration; empty text where it says nothing."""

    project: str = ""
    entity: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are unix seconds, None where Azure gave none."""

    id: str
    status: str
    model: str = ""
    created_at: float | None = None
    finished_at: float | None = None
    fine_tuned_model: str = ""
    trained_tokens: int | None = None
    training_file: str = ""
    validation_file: str = ""
    result_files: tuple[str, ...] = ()
    seed: int | None = None
    suffix: str = ""
    training_type: str = ""
    method: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    error_message: str = ""
    wandb: WandbIntegration | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    oddities: tuple[str, ...] = ()
    """Names of fields that were there and could not be used."""

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_paused(self) -> bool:
        return self.status == "paused"

    @property
    def is_reinforcement(self) -> bool:
        return self.method in ("reinforcement", "rl_environment")

    @property
    def is_waiting(self) -> bool:
        return self.status in WAITING


def is_job_id(value: object) -> TypeGuard[str]:
    """Say whether this can be a job's id; what has none is no job."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= _MAX_ID
