"""What one event of a job says, and how its message is written as a console line."""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from finetune_wandb.model.job import MAX_TIME, as_number
from finetune_wandb.model.redact import redacted
from finetune_wandb.relay.published.metrics import Number, read_metrics, step_of

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


def parse_event(item: object) -> Event | None:
    """Return what an event says, or None where nothing in it can be used."""
    if not isinstance(item, dict):
        return None
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
    at = moment(item.get("created_at"))
    key = item.get("id")
    if not isinstance(key, str) or not key:
        key = repr((at, text, step, sorted(metrics.items())))
    return Event(key, at, step, metrics, text, item.get("level") == "error", not_finite, total)


def moment(value: object) -> float | None:
    """Return a time in unix seconds, None for what is no time that anything could print."""
    at = value if type(value) is int else as_number(value)
    return float(at) if at is not None and 0 <= at < MAX_TIME else None


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
