"""What went wrong outside of any account's check or any job's relay: shown in the status."""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where a problem was met: a function, by its name in Azure, or the rotation of a key."""

    ACCOUNT_EVENT = "account_event"
    VAULT_EVENT = "vault_event"
    RELAY_TIMER = "relay_timer"
    DRIFT_TIMER = "drift_timer"
    RECONCILE_ACCOUNT = "reconcile_account"
    RELAY_JOBS = "relay_jobs"
    BACKFILL_JOBS = "backfill_jobs"
    JOB_ARTIFACTS = "job_artifacts"
    ROTATION = "rotation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cause about one subject, however often it came. Times are unix seconds."""

    source: str
    """A `Source`, as text in what a table returns."""
    subject: str
    """Resource id, field or setting; never an event's body."""
    cause: str
    remedy: str = ""
    first_at: float = 0.0
    last_at: float = 0.0
    count: int = 1
    """How often it came; of one that is being noted, how often since it was noted last."""
    message: str = ""
    """JSON of the message that was set aside, cut where it is long; empty for other problems."""
