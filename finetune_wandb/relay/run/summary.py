"""The run's summary: last and best values, the job's outcome, and how long things took.

Computed here and kept in the cursor, because W&B derives nothing for a run that is written
directly, and a resumed SDK run forgets its earlier minima.
"""

import math
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from finetune_wandb.model.job import Job
from finetune_wandb.relay.published.events import Event
from finetune_wandb.relay.published.metrics import Number
from finetune_wandb.relay.published.rows import Row
from finetune_wandb.relay.run.cost import Meter

_STARTED = re.compile(r"\b(job|training) started\b|^fine[- ]tuning job started", re.IGNORECASE)
_BILLED = re.compile(r"training hours billed:\s*([0-9.]+)", re.IGNORECASE)
_LOSS = "train_loss"
_BIGGER_IS_BETTER = ("accuracy", "reward", "score")


class Summary:
    """Grows with rows and events; `state` is what the cursor keeps of it."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._last = _loaded(state.get("last", {}))
        """[step, value] by metric."""
        self._best = _loaded(state.get("best", {}))
        self._loss: list[float] = [float(value) for value in state.get("loss", [])]
        """[first, lowest] training loss."""
        self.started_at: float | None = state.get("started_at")
        self.billed_hours: float | None = state.get("billed_hours")
        self.first_value_at: float | None = state.get("first_value_at")
        self.total_steps: int | None = state.get("total_steps")
        """How many steps the job will have, once an event has said it."""
        self.not_finite: bool = state.get("not_finite", False)
        self.best_checkpoint: dict[str, Any] = state.get("best_checkpoint", {})
        """Step, metric, value and deployable model of the best checkpoint."""

    def state(self) -> dict[str, Any]:
        """Return what `Summary` is made of again: strict JSON, shared with nothing."""
        return {
            "last": _dumped(self._last),
            "best": _dumped(self._best),
            "loss": [_finite(value) for value in self._loss],
            "first_value_at": self.first_value_at,
            "total_steps": self.total_steps,
            "not_finite": self.not_finite,
            "best_checkpoint": self.best_checkpoint,
            "started_at": self.started_at,
            "billed_hours": self.billed_hours,
        }

    def take_rows(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if self.first_value_at is None:
            self.first_value_at = next((row.at for row in rows if row.at is not None), None)
        losses = [loss for row in rows if (loss := row.values.get(_LOSS)) is not None]
        if losses:
            first, lowest = self._loss or (losses[0], losses[0])
            self._loss = [first, min(lowest, *losses)]
        # The values of the highest step, of equals the later ones; rows mostly come in order.
        newest: dict[str, tuple[int, Number]] = {}
        for row in sorted(rows, key=_step):
            step = row.step
            for name, value in row.values.items():
                newest[name] = (step, value)
                if _is_ranked(name):
                    self._take_best(name, step, value)
        for name, (step, value) in newest.items():
            entry = self._last.get(name)
            if entry is None or step >= entry[0]:
                self._last[name] = [step, value]

    def _take_best(self, name: str, step: int, value: Number) -> None:
        bigger = _is_bigger_better(name)
        entry = self._best.get(name)
        if (
            entry is None
            or (value > entry[1] if bigger else value < entry[1])
            or (value == entry[1] and step < entry[0])
        ):
            self._best[name] = [step, value]

    def take_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self.not_finite = self.not_finite or event.not_finite
            if event.total_steps:
                self.total_steps = max(event.total_steps, self.total_steps or 0)
            if event.step is not None:
                if event.at is not None and self.started_at is None:
                    self.started_at = event.at  # a first value says that training is on
                continue
            if event.at is not None and _STARTED.search(event.message):
                self.started_at = min(self.started_at or event.at, event.at)
            elif billed := _BILLED.search(event.message):
                try:
                    self.billed_hours = float(billed[1])
                except ValueError:
                    continue

    @property
    def losses(self) -> tuple[float | None, float | None, float | None]:
        """First, lowest and last training loss; None for each while there is none."""
        if not self._loss:
            return None, None, None
        return self._loss[0], self._loss[1], float(self._last[_LOSS][1])

    @property
    def progress(self) -> float | None:
        """The share of the job's steps that are done, 0 to 1; None while that is unknown."""
        if not self.total_steps or not self._last:
            return None
        return min(max(step for step, _ in self._last.values()) / self.total_steps, 1.0)

    def render(self, job: Job, *, rows: int, last_at: float | None, meter: Meter) -> dict[str, Any]:
        """Return the whole summary as W&B shows it. Durations are in seconds, cost is in USD."""
        shown: dict[str, Any] = {name: value for name, (_, value) in self._last.items()}
        for name, (step, value) in self._best.items():
            shown[f"best/{name}"] = value
            shown[f"best/{name}_step"] = step
            # Validation is rarer than training: its last value is seldom of the highest step.
            shown[f"last/{name}_step"] = self._last[name][0]
        if self._last:
            shown["step"] = max(step for step, _ in self._last.values())
        shown["status"] = job.status
        if job.fine_tuned_model:
            shown["fine_tuned_model"] = job.fine_tuned_model
        if job.trained_tokens is not None:
            shown["trained_tokens"] = job.trained_tokens
        if self.billed_hours is not None:
            shown["billed_hours"] = self.billed_hours
        if meter.cost is not None:
            shown["cost_usd"] = meter.cost
        if meter.projected is not None:
            shown["cost_usd_projected"] = meter.projected
        if self.progress is not None:
            shown["progress"] = round(self.progress, 4)
        if meter.paused_s:
            shown["paused_seconds"] = meter.paused_s
        for name, value in self.best_checkpoint.items():
            shown[f"best_checkpoint/{name}"] = value
        if job.error_code or job.error_message:
            shown["error_code"] = job.error_code
            shown["error_message"] = job.error_message
        start, end, began = job.created_at, job.finished_at, self.started_at
        if start is not None and began is not None and began >= start:
            shown["queue_seconds"] = began - start
        if job.is_terminal and end is not None:
            if began is not None and end >= began:
                shown["training_seconds"] = max(end - began - meter.paused_s, 0.0)
            if start is not None and end >= start:
                shown["total_seconds"] = end - start
        moment = (end if job.is_terminal else None) or last_at or start or 0.0
        runtime = max(moment - (start if start is not None else moment), 0.0)
        if rows:
            shown["_step"] = rows - 1
        shown["_timestamp"] = moment
        shown["_runtime"] = runtime
        shown["_wandb"] = {"runtime": int(runtime)}
        return shown


def _step(row: Row) -> int:
    return row.step


@lru_cache(maxsize=1024)
def _is_bigger_better(name: str) -> bool:
    return any(word in name.lower() for word in _BIGGER_IS_BETTER)


@lru_cache(maxsize=1024)
def _is_ranked(name: str) -> bool:
    """Say whether a metric has a best value: those of validation of which it is known which way."""
    return "valid" in name and (_is_bigger_better(name) or "loss" in name.lower())


def _dumped(entries: dict[str, list[Number]]) -> dict[str, list[Any]]:
    # Strict JSON has no infinity: a value that came back as null could not be compared.
    return {name: [step, _finite(value)] for name, (step, value) in entries.items()}


def _finite(value: Number) -> Number | str:
    return value if math.isfinite(value) else str(value)


def _loaded(entries: dict[str, list[Any]]) -> dict[str, list[Number]]:
    return {
        name: [step, float(value) if isinstance(value, str) else value]
        for name, (step, value) in entries.items()
    }


def facts_hash(job: Job) -> int:
    """Return a hash of what the summary takes from the job object itself."""
    facts = (
        *(job.status, job.fine_tuned_model, job.trained_tokens),
        *(job.error_code, job.error_message, job.created_at, job.finished_at),
    )
    return zlib.crc32(repr(facts).encode("utf-8", "replace"))
