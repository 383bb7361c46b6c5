"""Believable metrics of supervised and preference (DPO) training, one step at a time.

Decides the numbers that a step publishes. When a step happens is the simulator's affair, and
reinforcement training has its own file.
"""

import math
import random
from typing import Any, Protocol

from dev.sandbox.openai.job_request import JobRequest, Schedule
from dev.sandbox.openai.rewards import RewardCurve

_VALIDATE_EVERY = 10


class Curve(Protocol):
    """The metrics of one job. Asked once per step, in order, steps from 1."""

    signed: frozenset[str]
    """The columns of the result file that may be negative."""

    def data(self, step: int) -> dict[str, Any]:
        """Return what the metric event of this step carries; metrics not measured are absent."""
        ...

    def message(self, data: dict[str, Any]) -> str: ...

    def checkpoint(self, data: dict[str, Any]) -> dict[str, float | None]:
        """Return the metrics that a checkpoint made at this step lists."""
        ...

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of the result file, in order, each with its path in the data."""
        ...


def curve_for(request: JobRequest, plan: Schedule, rng: random.Random) -> Curve:
    validated = request.validation_file is not None
    if request.method == "reinforcement":
        return RewardCurve(request.grader or {}, plan, rng)
    if request.method == "dpo":
        return PreferenceCurve(plan, rng, validated)
    return TokenCurve(plan, rng, validated)


class _LossCurve:
    """A loss that falls towards a floor, and a validation loss that flattens above it."""

    names: tuple[str, ...] = ()
    signed: frozenset[str] = frozenset()

    def __init__(self, plan: Schedule, rng: random.Random, validated: bool) -> None:
        self._plan = plan
        self._rng = rng
        self._validated = validated

    def data(self, step: int) -> dict[str, Any]:
        data: dict[str, Any] = {"step": step, "total_steps": self._plan.total_steps}
        # Training overfits: by the end it is far below what validation reaches.
        data |= self._measures("train_", step, floor=0.02, noise=0.25)
        epoch_ends = step % self._plan.steps_per_epoch == 0
        if self._validated and (epoch_ends or step % _VALIDATE_EVERY == 0):
            data |= self._measures("valid_", step, floor=0.45, noise=0.12)
        if self._validated and epoch_ends:
            data |= self._measures("full_valid_", step, floor=0.5, noise=0.02)
        return data

    def message(self, data: dict[str, Any]) -> str:
        return f"Step {data['step']}: training loss={data['train_loss']}"

    def checkpoint(self, data: dict[str, Any]) -> dict[str, float | None]:
        return {name: float(value) for name, value in data.items() if name != "total_steps"}

    def columns(self) -> dict[str, tuple[str, ...]]:
        prefixes = ("train_", "valid_", "full_valid_") if self._validated else ("train_",)
        found: dict[str, tuple[str, ...]] = {"step": ("step",)}
        for prefix in prefixes:
            found |= {f"{prefix}{name}": (f"{prefix}{name}",) for name in self.names}
        return found

    def _measures(self, prefix: str, step: int, floor: float, noise: float) -> dict[str, float]:
        raise NotImplementedError

    def _loss(self, step: int, start: float, floor: float, noise: float) -> float:
        fallen = math.exp(-4.0 * step / self._plan.total_steps)
        return (floor + (start - floor) * fallen) * math.exp(self._rng.gauss(0.0, noise))


class TokenCurve(_LossCurve):
    """Supervised training: loss and the share of tokens guessed right."""

    names = ("loss", "mean_token_accuracy")

    def columns(self) -> dict[str, tuple[str, ...]]:
        # The result file says train_accuracy where the events say train_mean_token_accuracy.
        path = ("train_mean_token_accuracy",)
        return {
            "train_accuracy" if where == path else name: where
            for name, where in super().columns().items()
        }

    def _measures(self, prefix: str, step: int, floor: float, noise: float) -> dict[str, float]:
        loss = self._loss(step, 2.2, floor, noise)
        accuracy = math.exp(-0.42 * loss) + self._rng.gauss(0.0, noise / 20)
        return {
            f"{prefix}loss": loss,
            f"{prefix}mean_token_accuracy": min(1.0, max(0.0, accuracy)),
        }


class PreferenceCurve(_LossCurve):
    """Preference training: loss, how often the chosen answer wins, and by how much.

    No DPO metric event of Azure is published anywhere; these names are plausible, not recorded.
    """

    names = ("loss", "reward_accuracy", "reward_margin")
    signed = frozenset({f"{p}reward_margin" for p in ("train_", "valid_", "full_valid_")})

    def _measures(self, prefix: str, step: int, floor: float, noise: float) -> dict[str, float]:
        # An untrained policy scores both answers alike: loss ln 2, half of the pairs right.
        loss = self._loss(step, math.log(2), floor, noise)
        margin = self._rng.gauss(-math.log(math.expm1(max(loss, 1e-4))), noise)
        return {
            f"{prefix}loss": loss,
            f"{prefix}reward_accuracy": 1 / (1 + math.exp(-2.0 * margin)),
            f"{prefix}reward_margin": margin,
        }
