"""What one item that Azure publishes says, as rows of the run and lines of its console.

A row is a step and a moment with the values published for them. The ledger says which values are
taken: one that appears later for a step that already has a row becomes a row of its own.

Which numbers are metrics is not decided by name: Microsoft's pages disagree about the names of
reinforcement metrics and verify none for preference training, so every number becomes one. One
vocabulary gives one name to what events, checkpoints and result files spell differently;
docs/run-contents.md lists them.
"""

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from finetune_wandb.model.relay.job import as_moment
from finetune_wandb.model.relay.redact import redacted

Number = int | float

VOCABULARY: Final = {
    "train_accuracy": "train_mean_token_accuracy",
    "valid_accuracy": "valid_mean_token_accuracy",
    "validation_accuracy": "valid_mean_token_accuracy",
    "validation_mean_token_accuracy": "valid_mean_token_accuracy",
    "valid_token_accuracy": "valid_mean_token_accuracy",
    "validation_loss": "valid_loss",
    "train_reward_mean": "train_mean_reward",
    "scores/train_reward_mean": "train_mean_reward",
    "valid_reward_mean": "valid_mean_reward",
    "validation_reward_mean": "valid_mean_reward",
    "validation_mean_reward": "valid_mean_reward",
    "scores/valid_reward_mean": "valid_mean_reward",
    "full_valid_reward_mean": "full_valid_mean_reward",
}
"""Spelling: the one name."""
_SAMPLES: Final = "usages/samples/"
"""Checkpoints spell so what events call `usage/samples/`."""
_TYPED_GRADER: Final = re.compile(
    r"scores/graders/(?:string_check|text_similarity|score_model|label_model|python|endpoint|multi)"
    r"/(?=[^/]+/[^/]+$)"
)
"""Result files name a grader's type before the grader."""

_NOT_METRICS: Final = frozenset({"step", "total_steps", "step_number"})
_IDENTIFIER: Final = re.compile(r"(?:^|[/_])ids?$", re.IGNORECASE)
_MAY_BE_NEGATIVE: Final = re.compile("reward|score|margin|log|kl|advantage|delta|diff")
_NEVER_NEGATIVE: Final = re.compile(
    "loss|accuracy|token|error|entropy|perplexity|seconds|latency|duration|tool_calls|samples|epoch"
    # Whole words only: part of too many others (`sentiment`, `discount`).
    "|learning_rate|(?:^|[^a-z])(?:lr|times?|counts?)(?:$|[^a-z])"
)
_WHOLE: Final = re.compile(r"^\s*[+-]?[0-9]+\s*$", re.ASCII)
_NOT_FINITE: Final = ("nan", "inf", "-inf", "infinity", "-infinity")
_MAX_DEPTH: Final = 16
_INT64: Final = 2**63
_ROUNDED: Final = 1e-3
"""Sources may round: what differs by less than this share is the same value."""
_LONGEST: Final = 8000
"""Characters of one message; W&B drops lines that are far too long."""


def step_of(value: object) -> int | None:
    """Return a training step given as int, float or text; None where it is not a whole number."""
    if type(value) is int:
        return value if 0 <= value < _INT64 else None
    if isinstance(value, str):
        try:
            # As a whole number first: a float holds only 53 bits of one.
            return step_of(int(value) if _WHOLE.match(value) else number_in(value))
        except ValueError:
            return None  # more digits than Python reads
    return step_of(int(value)) if isinstance(value, float) and value.is_integer() else None


def number_in(text: str) -> float | None:
    """Return the number that a text is, None where it is none.

    Python reads `1_000` as a number; in a result file it is an identifier.
    """
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def metrics_of(data: Mapping[str, Any]) -> dict[str, Number]:
    """Return every metric in an event's data or a checkpoint's metrics, by its one name.

    Nested objects are joined by `/`; a list of objects is keyed by their `name`, by index where
    there is none. Text, truth values, identifiers and placeholders are not metrics.
    """
    return read_metrics(data)[0]


def read_metrics(data: Mapping[str, Any]) -> tuple[dict[str, Number], bool]:
    """Return the metrics, and whether a number of the training is not finite (text says so, too).

    One of validation may say so for "no value".
    """
    found: dict[str, Number] = {}
    finite = True
    for name, value in data.items():
        kind = type(value)
        if kind is float:
            if value - value != 0.0:  # true of infinities and NaN
                finite = finite and "valid" in name
            elif value != -1.0 and (own := metric_name(name)):  # the common case
                if own not in found:
                    found[own] = value
                continue
            add_metric(found, name, value)
        elif kind is int:
            add_metric(found, name, value)
        elif kind is str:
            finite = finite and ("valid" in name or value.lower() not in _NOT_FINITE)
        elif value is not None and name not in _NOT_METRICS:
            for full, number in _walk(str(name), value, 1):
                add_metric(found, full, number)
    return found, not finite


def add_metric(found: dict[str, Number], name: str, value: Number) -> None:
    """Put a value under its one name. Skip placeholders and names that are no metric or taken."""
    own = metric_name(name)
    if not own or own in found or value != value or (value == -1 and cannot_be_negative(name)):
        return
    if type(value) is int and not -_INT64 <= value < _INT64:
        try:
            value = float(value)
        except OverflowError:
            return
    found[own] = value


@lru_cache(maxsize=4096)
def metric_name(name: str) -> str:
    """Return the one name of a metric; empty for an axis or an identifier.

    W&B keeps names with a leading underscore and the axis `step` for itself; a metric must
    not take their place.
    """
    if name in _NOT_METRICS or _IDENTIFIER.search(name):
        return ""
    if name.startswith("_"):
        return f"metric{name}"
    if name.startswith(_SAMPLES):
        return name.replace("usages", "usage", 1)
    if name.startswith("scores/graders/"):
        return _TYPED_GRADER.sub("scores/graders/", name)
    return VOCABULARY.get(name, name)


@lru_cache(maxsize=4096)
def cannot_be_negative(name: str) -> bool:
    """Say whether -1 under this name stands for "no value" (Azure's result files write it so)."""
    lowered = name.lower()
    # Its own name says more than those of the objects it lies in: `scores/error_count`.
    for text in dict.fromkeys((lowered.rpartition("/")[2], lowered)):
        if _MAY_BE_NEGATIVE.search(text):
            return False
        if _NEVER_NEGATIVE.search(text):
            return True
    return False


def _walk(prefix: str, value: object, depth: int) -> Iterator[tuple[str, Number]]:
    if isinstance(value, bool) or depth > _MAX_DEPTH:
        return
    if isinstance(value, (int, float)):
        yield prefix, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(f"{prefix}/{name}", inner, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            label = inner.get("name") if isinstance(inner, dict) else None
            yield from _walk(
                f"{prefix}/{label if isinstance(label, str) and label else index}", inner, depth + 1
            )


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
    given = item.get("data")
    data = given if isinstance(given, dict) else {}
    step, total = step_of(data.get("step")), step_of(data.get("total_steps"))
    metrics, not_finite = ({}, False) if step is None else read_metrics(data)
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
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    start = "ERROR " if event.is_error else ""
    return f"{start}{stamp.removesuffix('+00:00')} {redacted(event.message)}"


def _text(message: str) -> str:
    """Return a message as one line."""
    if not message.isprintable() or "  " in message or message != message.strip():
        message = " ".join(message.split())
    return shortened(message)


def shortened(text: str) -> str:
    """Return a text of a length that W&B's console and tables take."""
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
    numbered = step_of(item.get("step_number"))
    step = step_of(metrics.get("step")) if numbered is None else numbered
    if step is None:
        return None
    model = item.get("fine_tuned_model_checkpoint")
    return Checkpoint(step, model if isinstance(model, str) else "", metrics_of(metrics))


def checkpoint_table(found: Iterable[Checkpoint]) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Return columns and rows, in step order: step, deployable model, then every metric."""
    known = sorted(found, key=lambda one: one[:2])
    names = sorted({name for one in known for name in one.metrics})
    rows = tuple((*one[:2], *(one.metrics.get(name) for name in names)) for one in known)
    return ("step", "model", *names), rows


@dataclass(slots=True)
class Row:
    """Metrics at one step. `at` is unix seconds, None where the source had no time."""

    step: int
    values: dict[str, Number]
    at: float | None = None


@dataclass(slots=True)
class Conflicts:
    """Values that differ from one that stands for the same step and metric."""

    count: int = 0
    first: str = ""
    """The first of them, in words."""

    def compare(self, step: int, metric: str, value: Number, known: Number) -> None:
        """Count a value that is left out, if it is not the one that stands."""
        is_same = math.isclose(value, known, rel_tol=_ROUNDED, abs_tol=_ROUNDED / 10)
        if value == value and value != -1 and not is_same:
            self.first = self.first or f"step {step}: {metric} {known} and {value}"
            self.count += 1

    def notes(self, source: str) -> Iterator[str]:
        """Yield what was left out of a source, in plain words."""
        if self.count:
            yield (
                f"{self.count} values of {source} differ from those already published and were left"
                f" out, the first at {self.first}"
            )


def rows_of(
    events: Iterable[Event], checkpoints: Iterable[Checkpoint], conflicts: Conflicts
) -> dict[int, Row]:
    """Return the values by step; the first event to name a value wins, then the checkpoints."""
    rows: dict[int, Row] = {}
    dated = ((one.step, one.metrics, one.at) for one in events if one.metrics)
    # A checkpoint is written after its step; it must not give a step's row a later time.
    undated = ((one.step, one.metrics, None) for one in checkpoints)
    for step, values, at in chain(dated, undated):
        if step is None:
            continue
        if (row := rows.get(step)) is None:
            rows[step] = Row(step, values, at)
            continue
        if row.at is None:
            row.at = at
        for name in values.keys() & row.values.keys():
            if values[name] != row.values[name]:
                conflicts.compare(step, name, values[name], row.values[name])
        # A new mapping: the first one still belongs to the event that it came with.
        row.values = {**values, **row.values}
    return rows


def history_line(row: Row, index: int, at: float, runtime: float) -> str:
    """Return a row as a line of the run's history.

    `index` is the row's position in the run. It is also W&B's own `_step`, which must not repeat,
    while the training step is the metric `step` that every chart uses as its x axis.
    """
    place = {"_step": index, "_timestamp": at, "_runtime": runtime}
    return json_text({"step": row.step, **row.values, **place})


def json_text(values: Mapping[str, Any]) -> str:
    """Return values as W&B's files take them: infinity is the bare word, as its SDK writes it."""
    text = orjson.dumps(values).decode()
    # orjson has no word for infinity, and writes null.
    return json.dumps(values, separators=(",", ":")) if "null" in text else text
