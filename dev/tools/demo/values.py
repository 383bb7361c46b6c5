"""Which values a fine-tuning job published, and whether a run's history holds exactly those.

The expectation is worked out from the published objects alone, from the rules in
docs/architecture.md ("Metric names"); it shares no code with the relay.
"""

import base64
import binascii
import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Value = tuple[int, str]
"""(training step, metric)."""
Published = dict[Value, set[float]]
"""Every value, with the numbers that the sources gave for it: seldom more than one."""

_NOT_METRICS: Final = {"step", "step_number", "total_steps"}
_ONE_NAME: Final = {
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
_GRADERS: Final = {
    *("string_check", "text_similarity", "score_model", "label_model"),
    *("python", "endpoint", "multi"),
}
_SIGNED: Final = {"reward", "rewards", "score", "scores", "margin", "margins", "logps", "kl"}
_COUNTED: Final = {
    *("loss", "accuracy", "token", "tokens", "count", "counts", "error", "errors", "samples"),
    *("entropy", "perplexity", "seconds", "time", "duration", "latency", "epoch", "lr", "calls"),
}
_WORDS: Final = re.compile(r"[^a-z0-9]+")


def published(
    events: Iterable[Mapping[str, Any]] = (),
    checkpoints: Iterable[Mapping[str, Any]] = (),
    result_file: bytes = b"",
) -> Published:
    """Return what these objects publish of one job; a result file that is no CSV gives nothing."""
    found: Published = {}
    for event in events:
        data = event.get("data")
        if isinstance(data, Mapping):
            _take(found, data.get("step"), data)
    for checkpoint in checkpoints:
        metrics = checkpoint.get("metrics")
        if isinstance(metrics, Mapping):
            step = step_of(checkpoint.get("step_number"))
            _take(found, metrics.get("step") if step is None else step, metrics)
    for row in _records(result_file):
        _take(found, row.pop("step", None), row)
    return found


def number(value: object) -> float | None:
    """Return a metric's number as read from a run, None for what is none.

    W&B answers infinities as text.
    """
    if isinstance(value, str):
        return {"Infinity": math.inf, "-Infinity": -math.inf}.get(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if math.isnan(value) else float(value)


def step_of(value: object) -> int | None:
    """Return a training step given as a number or as text, None where it is no whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        step = float(value)
    except ValueError:
        return None
    return int(step) if step.is_integer() and step >= 0 else None


def _take(found: Published, step: object, data: Mapping[str, Any]) -> None:
    whole = step_of(step)
    if whole is None:
        return
    for path, raw in _numbers("", data):
        value = number(raw)
        is_identifier = path.lower().replace("/", "_").split("_")[-1] in ("id", "ids")
        if value is None or path in _NOT_METRICS or is_identifier:
            continue
        if value == -1 and _means_nothing(path):
            continue
        found.setdefault((whole, _one_name(path)), set()).add(value)


def _one_name(path: str) -> str:
    parts = path.split("/")
    if parts[:2] == ["usages", "samples"]:
        parts[0] = "usage"
    if parts[:2] == ["scores", "graders"] and len(parts) == 5 and parts[2] in _GRADERS:
        del parts[2]
    return _ONE_NAME.get(path, "/".join(parts))


def _numbers(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(f"{path}/{name}" if path else str(name), inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            name = inner.get("name") if isinstance(inner, Mapping) else None
            label = name if isinstance(name, str) and name else place
            yield from _numbers(f"{path}/{label}", inner)
    elif not isinstance(value, str):
        yield path, value


def _means_nothing(name: str) -> bool:
    """Whether -1 under this name stands for "not measured"."""
    words = set(_WORDS.split(name.lower()))
    return bool(words & _COUNTED) and not words & _SIGNED


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows of a result file; the first of two columns for one metric wins."""
    lines = list(csv.reader(_plain(content).decode("utf-8-sig", "replace").splitlines()))
    header = [name.strip() for name in lines[0]] if lines else []
    lowered = [name.lower() for name in header]
    if "step" not in lowered:
        return
    header[lowered.index("step")] = "step"
    for line in lines[1:]:
        record: dict[str, Any] = {}
        for name, text in zip(header, line, strict=False):
            try:
                record.setdefault(name, float(text))
            except ValueError:
                continue  # empty, or a column of text
        yield record


def _plain(content: bytes) -> bytes:
    """Undo base64 where the content is base64: it has no commas, a CSV header does."""
    if b"," in content:
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return content


@dataclass(slots=True)
class Comparison:
    """What a comparison found. Lists are in order of step and metric."""

    expected: int = 0
    found: int = 0
    """Published values that the run holds."""
    missing: list[Value] = field(default_factory=list)
    """Published values that the run does not hold, or holds with another number."""
    duplicate: list[Value] = field(default_factory=list)
    """Values that the run holds more than once."""
    unexpected: list[Value] = field(default_factory=list)
    """Values in the run that were never published."""

    @property
    def exact(self) -> bool:
        return self.expected > 0 and not (self.missing or self.duplicate or self.unexpected)

    def counts(self) -> dict[str, int]:
        """Return the figures as the report shows them."""
        return {
            "expected": self.expected,
            "found": self.found,
            "missing": len(self.missing),
            "duplicate": len(self.duplicate),
            "unexpected": len(self.unexpected),
        }


def compare(published: Published, history: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compare a run's rows, each with its `step`, with the published values.

    W&B's own columns begin with an underscore and are left out.
    """
    times: Counter[Value] = Counter()
    held: dict[Value, float] = {}
    for row in history:
        step = step_of(row.get("step"))
        for name, raw in row.items():
            value = number(raw)
            if name == "step" or name.startswith("_") or value is None:
                continue
            # A row without a step can belong to no published value.
            place = (-1 if step is None else step, name)
            times[place] += 1
            held[place] = value
    result = Comparison(expected=len(published))
    for place, accepted in sorted(published.items()):
        if held.get(place) in accepted:
            result.found += 1
        else:
            result.missing.append(place)
    result.duplicate = sorted(place for place, count in times.items() if count > 1)
    result.unexpected = sorted(held.keys() - published.keys())
    return result
