"""Which numbers in what Azure publishes are metrics, and under which name.

Name-agnostic: Microsoft's pages disagree about the names of reinforcement metrics and verify
none for preference training, so every number becomes a metric. One vocabulary gives one name to
what events, checkpoints and result files spell differently; docs/run-contents.md lists them.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

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
_MAY_BE_NEGATIVE: Final = ("reward", "score", "margin", "log", "kl", "advantage", "delta", "diff")
_NEVER_NEGATIVE: Final = (
    "loss",
    "accuracy",
    "token",
    "error",
    "entropy",
    "perplexity",
    "seconds",
    "latency",
    "duration",
    "tool_calls",
    "samples",
    "epoch",
    "learning_rate",
)
_NEVER_NEGATIVE_WORD: Final = re.compile(r"(?:^|[^a-z])(?:lr|times?|counts?)(?:$|[^a-z])")
"""Words that are part of too many others (`sentiment`, `discount`) to be looked for inside."""
_WHOLE: Final = re.compile(r"^\s*[+-]?[0-9]+\s*$", re.ASCII)
_NOT_FINITE: Final = ("nan", "inf", "-inf", "infinity", "-infinity")
_MAX_DEPTH: Final = 16
_MOST_NAMES: Final = 4096
_names: dict[str, str] = {}
"""The one name of each name that was met: a look here costs less than any call."""
_INT64: Final = 2**63


def step_of(value: object) -> int | None:
    """Return a training step given as int, float or text; None where it is not a whole number."""
    if type(value) is int:
        return value if 0 <= value < _INT64 else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            # As a whole number first: a float holds only 53 bits of one.
            return step_of(int(value)) if _WHOLE.match(value) else step_of(number_in(value))
        except ValueError:
            return None  # more digits than Python reads
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value) if 0 <= value < _INT64 else None
    return None


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
    """Return the metrics, and whether one of the numbers is not finite (text says so, too)."""
    found: dict[str, Number] = {}
    finite = True
    for name, value in data.items():
        kind = type(value)
        if kind is float:
            if value - value != 0.0:  # true of infinities and of what is no number
                finite = False
            elif value != -1.0 and (own := _names.get(name)):  # the common case, without a call
                if own not in found:
                    found[own] = value
                continue
            add_metric(found, name, value)
        elif kind is int:
            add_metric(found, name, value)
        elif kind is str:
            finite = finite and value.lower() not in _NOT_FINITE
        elif value is not None and name not in _NOT_METRICS:
            for full, number in _walk(str(name), value, 1):
                add_metric(found, full, number)
    return found, not finite


def add_metric(found: dict[str, Number], name: str, value: Number) -> None:
    """Put a value under its one name unless it is no metric or placeholder or the name is taken."""
    own = metric_name(name)
    if not own or own in found or value != value or (value == -1 and cannot_be_negative(name)):
        return
    if type(value) is int and not -_INT64 <= value < _INT64:
        try:
            value = float(value)
        except OverflowError:
            return
    found[own] = value


def metric_name(name: str) -> str:
    """Return the one name of a metric; empty for an axis or an identifier.

    W&B keeps names with a leading underscore and the axis `step` for itself; a metric must
    not take their place.
    """
    own = _names.get(name)
    if own is None:
        own = VOCABULARY.get(name, name)
        if name in _NOT_METRICS or _IDENTIFIER.search(name):
            own = ""
        elif name.startswith("_"):
            own = f"metric{name}"
        elif name.startswith(_SAMPLES):
            own = name.replace("usages", "usage", 1)
        elif name.startswith("scores/graders/"):
            own = _TYPED_GRADER.sub("scores/graders/", name)
        if len(_names) < _MOST_NAMES:
            _names[name] = own
    return own


@lru_cache(maxsize=4096)
def cannot_be_negative(name: str) -> bool:
    """Say whether -1 under this name stands for "no value" (Azure's result files write it so)."""
    lowered = name.lower()
    # Its own name says more than those of the objects it lies in: `scores/error_count`.
    for text in dict.fromkeys((lowered.rpartition("/")[2], lowered)):
        if any(part in text for part in _MAY_BE_NEGATIVE):
            return False
        if any(part in text for part in _NEVER_NEGATIVE) or _NEVER_NEGATIVE_WORD.search(text):
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
