"""What one event or checkpoint of a job says, as rows of the run and lines of its console.

A row is a step and a moment with the values published for them. The ledger says which values are
taken: one that appears later for a step that already has a row becomes a row of its own.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from finetune_wandb.model.relay.job import as_moment
from finetune_wandb.model.relay.redact import redacted
from finetune_wandb.relay.published.metrics import Number, metrics_of, read_metrics, step_of

_LONGEST: Final = 8000
"""Characters of one message; W&B drops lines that are far too long."""


@dataclass(slots=True)
class Event:
    """One event of a job, not to be changed; frozen ones cost three times as much to make.

    `at` is unix seconds, None where it has no usable time."""

    key: str
    """The event's id; what it says, where it has none."""
    at: float | None
    step: int | None
    metrics: dict[str, Number]
    message: str
    is_error: bool
    not_finite: bool = False
    """One of its metrics is not a finite number."""
    total_steps: int | None = None
    """How many steps the job will have, where the event says it."""

    @property
    def identity(self) -> int:
        """63-bit hash of the key."""
        # Two independent 32-bit sums: enough to tell a few hundred messages of one job apart.
        name = self.key.encode("utf-8", "replace")
        return (zlib.crc32(name) << 31) ^ zlib.adler32(name[::-1] + name)


def parse_event(item: Mapping[str, Any]) -> Event | None:
    """Return what an event says, or None where nothing in it can be used."""
    data = item.get("data")
    step: int | None = None
    total: int | None = None
    metrics: dict[str, Number] = {}
    not_finite = False
    if isinstance(data, dict):
        total = step_of(data.get("total_steps"))
        step = step_of(data.get("step"))
        if step is not None:
            metrics, not_finite = read_metrics(data)
    message = item.get("message")
    text = _text(message) if isinstance(message, str) else ""
    if not metrics and not text:
        return None
    at = as_moment(item.get("created_at"))
    key = item.get("id")
    if not isinstance(key, str) or not key:
        key = repr((at, text, step, sorted(metrics.items())))
    return Event(key, at, step, metrics, text, item.get("level") == "error", not_finite, total)


def console_line(event: Event, at: float) -> str:
    """Return an event's line of console output, as the wandb SDK writes one.

    Source: facts/wandb.md 2.1 (recorded from wandb 0.31.0): UTC without a zone, then the text;
    `ERROR ` leads a line of the error stream.
    """
    minute, second = divmod(at if at.is_integer() else round(at, 6), 60.0)
    stamp = f"{_minute(int(minute))}{second:09.6f}"
    return f"{'ERROR ' if event.is_error else ''}{stamp} {redacted(event.message)}"


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    """Return the beginning of a stamp: most of a job's lines fall into few minutes."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def _text(message: str) -> str:
    """Return a message as one line of a length that a console takes."""
    text = message
    if not message.isprintable() or "  " in message or message != message.strip():
        text = " ".join(message.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


class Checkpoint(NamedTuple):
    """A model that can be deployed, and its metrics."""

    step: int
    model: str
    """The name to deploy it by; empty where Azure gives none."""
    metrics: dict[str, Number]


def parse_checkpoint(item: Mapping[str, Any]) -> Checkpoint | None:
    """Return what a checkpoint says, or None where it has no step or no metrics."""
    metrics = item.get("metrics")
    if not isinstance(metrics, Mapping):
        return None
    step = step_of(item.get("step_number"))
    if step is None:
        step = step_of(metrics.get("step"))
    if step is None:
        return None
    model = item.get("fine_tuned_model_checkpoint")
    return Checkpoint(step, model if isinstance(model, str) else "", metrics_of(metrics))


def checkpoint_table(
    checkpoints: Iterable[Checkpoint],
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Return columns and rows, in step order: step, deployable model, then every metric."""
    known = sorted(checkpoints, key=lambda one: one[:2])
    names = sorted({name for one in known for name in one.metrics})
    rows = tuple((*one[:2], *(one.metrics.get(name) for name in names)) for one in known)
    return ("step", "model", *names), rows


@dataclass(slots=True)
class Row:
    """Metrics at one step. `at` is unix seconds, None where the source had no time."""

    step: int
    values: dict[str, Number]
    at: float | None = None


def rows_of(events: Iterable[Event], checkpoints: Iterable[Checkpoint] = ()) -> dict[int, Row]:
    """Return the values by step; the first event to name a value wins, then the checkpoints."""
    rows: dict[int, Row] = {}
    for event in events:
        if event.step is not None and event.metrics:
            _merge(rows, event.step, event.metrics, event.at)
    for one in checkpoints:
        # A checkpoint is written after its step; it must not give a step's row a later time.
        _merge(rows, one.step, one.metrics, None)
    return rows


def _merge(rows: dict[int, Row], step: int, values: dict[str, Number], at: float | None) -> None:
    row = rows.get(step)
    if row is None:
        rows[step] = Row(step, values, at)
        return
    if row.at is None:
        row.at = at
    # A new mapping: the first one still belongs to the event that it came with.
    row.values = {**values, **row.values}


def history_line(row: Row, index: int, at: float, runtime: float) -> str:
    """Return a row as a line of the run's history.

    `index` is the row's position in the run. It is also W&B's own `_step`, which must not repeat,
    while the training step is the metric `step` that every chart uses as its x axis.
    """
    return json_text(
        {
            "step": row.step,
            **row.values,
            "_step": index,
            "_timestamp": at,
            "_runtime": runtime,
        }
    )


def json_text(values: Mapping[str, Any]) -> str:
    """Return values as W&B's files take them: infinity is the bare word, as its SDK writes it."""
    text = orjson.dumps(values).decode()
    # orjson has no word for infinity, and writes null.
    return json.dumps(values, separators=(",", ":")) if "null" in text else text
