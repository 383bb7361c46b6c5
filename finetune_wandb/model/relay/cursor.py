"""What a job's run already holds, and the next request: the relay's memory of one job.

One cursor per job. What the status shows are fields; what only the relay reads is in `state`,
opaque to the table. `outbox` is the body of the next request to W&B, saved before it
is sent: after a crash the same bytes go to the same offsets again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from finetune_wandb.model.relay.state import TRANSITIONS, Happened, RelayState


@dataclass(frozen=True, slots=True)
class RunPath:
    """A W&B run's address."""

    entity: str
    project: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.run_id}"


@dataclass(slots=True)
class Cursor:
    """Mutable: a pass advances it and the table writes it under its etag."""

    account: str
    """The account id's key (lower case)."""
    job: str
    etag: str = ""
    """Version of the stored row; empty for a cursor that was never stored."""
    relay_state: RelayState = RelayState.NEW
    status: str = ""
    """The job's status at the last pass that went through: what follows from a change of it is due
    until then."""
    run: RunPath | None = None
    rows: int = 0
    """Rows of history that are in the run or in the outbox."""
    lines: int = 0
    """Lines of console output that are in the run or in the outbox."""
    values: int = 0
    last_step: int | None = None
    last_value_at: float | None = None
    """When Azure published the newest relayed value (unix seconds)."""
    lag_s: float | None = None
    """Seconds from then until it was in W&B, for the last values sent."""
    posted_at: float = 0.0
    """When the last request with content reached W&B (unix seconds)."""
    listed_at: float = field(default=0.0, compare=False)
    """When the job object that was relayed last was listed (unix seconds): an older one that
    arrives late is left alone."""
    busy_until: float = field(default=0.0, compare=False)
    """Until then one worker reads the job and the others leave it alone (unix seconds). Short and
    renewed, so a crash costs little."""
    ending_since: float | None = None
    retry_at: float = 0.0
    """The job is not looked at before this time (unix seconds)."""
    failures: int = 0
    error: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = ()
    """What could not be used of what Azure published."""
    created_at: float | None = None
    finished_at: float | None = None
    model: str = ""
    curve: dict[str, Any] = field(default_factory=dict)
    """A few points of the losses, for a small chart."""
    state: dict[str, Any] = field(default_factory=dict)
    outbox: bytes = b""
    is_unreadable: bool = field(default=False, compare=False)
    """Another version of the app wrote the row, and this one cannot read it. It must not be
    overwritten."""
    stored: "Stored | None" = field(default=None, compare=False, repr=False)
    """What the table holds under `etag`, so that only what changed is written."""

    def set_aside_unread(self) -> None:
        """Set the error of a job whose stored row this version cannot read."""
        self.relay_state = RelayState.PARKED
        self.error = "what is stored about this job cannot be read by this version of the app"
        self.remedy = "deploy the version that wrote it, or a newer one; nothing is lost meanwhile"

    def move(self, happened: Happened) -> None:
        """Go to the state that follows what happened."""
        self.relay_state = TRANSITIONS[self.relay_state][happened]


@dataclass(frozen=True, slots=True)
class Stored:
    """The large columns of a cursor's row as last read or written."""

    state: bytes
    curve: bytes
    outbox: bytes


class Kept(msgspec.Struct):
    """A part of a cursor's `state`, by names with defaults: a row that another version wrote still
    loads. A field of a class of ours has `load` and `dump` as this one has."""

    @classmethod
    def load(cls, state: Mapping[str, Any] | None) -> Self:
        """Return the object that `dump` wrote; a new one for None."""
        return msgspec.convert(state or {}, cls, strict=False, dec_hook=_part)

    def dump(self) -> dict[str, Any]:
        """Return plain values, shared with nothing."""
        found: dict[str, Any] = msgspec.to_builtins(self, enc_hook=lambda part: part.dump())
        return found


def _part(kind: Any, dumped: Any) -> Any:
    return kind.load(dumped)


def strict_json(value: Any) -> Any:
    """Return plain values with text for the numbers that JSON cannot express."""
    if isinstance(value, dict):
        return {name: strict_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class JobSeen:
    """What the finder needs to know of a job, without its history."""

    job: str
    relay_state: RelayState
    retry_at: float
    status: str = ""
    """The job's status at its last pass."""
    has_run: bool = False
