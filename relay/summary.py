"""The run's summary: last and best values, the job's outcome, and how long things took.

Computed here and kept in the cursor, because W&B derives nothing for a run that is written
directly, and a resumed SDK run forgets its earlier minima.
"""

import re
from collections.abc import Iterable
from typing import Any

from model.job import Job
from relay.events import Event
from relay.metrics import Number
from relay.rows import Row

_STARTED = re.compile(r"\b(job|training) started\b|^fine[- ]tuning job started", re.IGNORECASE)
_BILLED = re.compile(r"training hours billed:\s*([0-9.]+)", re.IGNORECASE)
_BIGGER_IS_BETTER = ("accuracy", "reward", "score")


class Summary:
    """Grows with rows and events; `state` is what the cursor keeps of it."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._last: dict[str, list[Number]] = state.get("last", {})
        """[step, value] by metric."""
        self._best: dict[str, list[Number]] = state.get("best", {})
        self.started_at: float | None = state.get("started_at")
        self.billed_hours: float | None = state.get("billed_hours")

    def state(self) -> dict[str, Any]:
        return {
            "last": self._last,
            "best": self._best,
            "started_at": self.started_at,
            "billed_hours": self.billed_hours,
        }

    def take_rows(self, rows: Iterable[Row]) -> None:
        last = self._last
        for row in rows:
            step = row.step
            for name, value in row.values.items():
                entry = last.get(name)
                if entry is None:
                    last[name] = [step, value]
                elif step >= entry[0]:
                    entry[0] = step
                    entry[1] = value
                if "valid" in name:
                    self._take_best(name, step, value)

    def _take_best(self, name: str, step: int, value: Number) -> None:
        lowered = name.lower()
        bigger = any(word in lowered for word in _BIGGER_IS_BETTER)
        if not bigger and "loss" not in lowered:
            return
        entry = self._best.get(name)
        if (
            entry is None
            or (value > entry[1] if bigger else value < entry[1])
            or (value == entry[1] and step < entry[0])
        ):
            self._best[name] = [step, value]

    def take_events(self, events: Iterable[Event]) -> None:
        for event in events:
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

    def render(self, job: Job, *, rows: int, last_at: float | None) -> dict[str, Any]:
        """Return the whole summary as W&B shows it. Durations are in seconds."""
        shown: dict[str, Any] = {name: value for name, (_, value) in self._last.items()}
        for name, (step, value) in self._best.items():
            shown[f"best/{name}"] = value
            shown[f"best/{name}_step"] = step
        if self._last:
            shown["step"] = max(step for step, _ in self._last.values())
        shown["status"] = job.status
        if job.fine_tuned_model:
            shown["fine_tuned_model"] = job.fine_tuned_model
        if job.trained_tokens is not None:
            shown["trained_tokens"] = job.trained_tokens
        if self.billed_hours is not None:
            shown["billed_hours"] = self.billed_hours
        if job.error_code or job.error_message:
            shown["error_code"] = job.error_code
            shown["error_message"] = job.error_message
        start, end, began = job.created_at, job.finished_at, self.started_at
        if start is not None and began is not None and began >= start:
            shown["queue_seconds"] = began - start
        if job.is_terminal and end is not None:
            if began is not None and end >= began:
                shown["training_seconds"] = end - began
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
