"""What went wrong outside of any account's check or any job's relay: shown in the status."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cause about one subject, however often it came. Times are unix seconds."""

    source: str
    """The function that met it."""
    subject: str
    """Resource id, field or setting; never an event's body."""
    cause: str
    remedy: str = ""
    first_at: float = 0.0
    last_at: float = 0.0
    count: int = 1
    """How often it came; of one that is being noted, how often since it was noted last."""
