"""The app's queues; messages that were begun or set aside; and problems outside any account or job.

The key of a message's row is the message's text, so a copy that is sent again after a crash meets
the row of the one that died. docs/operations.md explains what an operator sees of both.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from finetune_wandb.model.errors import AppError

ALIVE_S: Final = 45.0
"""Work that was not refreshed for this long died with its process."""
BEAT_S: Final = 15.0
AGAIN_S: Final = 110.0
"""A copy that was sent this recently may still wait in its queue."""
MOST_DEATHS: Final = 3
"""Processes that may die with a message before it gets its second round, and again after that."""
REMEMBER_S: Final = 3600.0
"""How long finished work is known: far longer than the queue's lease of ten minutes."""


class Source(StrEnum):
    """Where a problem arose: a function, by its name in Azure, or the rotation of a key."""

    ACCOUNT_EVENT = "account_event"
    VAULT_EVENT = "vault_event"
    RELAY_TIMER = "relay_timer"
    DRIFT_TIMER = "drift_timer"
    RECONCILE_ACCOUNT = "reconcile_account"
    RELAY_JOBS = "relay_jobs"
    BACKFILL_JOBS = "backfill_jobs"
    JOB_ARTIFACTS = "job_artifacts"
    ROTATION = "rotation"


RECONCILE: Final = "reconcile-accounts"
RELAY: Final = "relay-jobs"
BACKFILL: Final = "backfill-jobs"
"""Jobs that were over when first seen, and re-syncs: live jobs never wait for them."""
ARTIFACTS: Final = "job-artifacts"
QUEUES: Final = {
    RECONCILE: Source.RECONCILE_ACCOUNT,
    RELAY: Source.RELAY_JOBS,
    BACKFILL: Source.BACKFILL_JOBS,
    ARTIFACTS: Source.JOB_ARTIFACTS,
}
"""The function of each queue."""


@dataclass(frozen=True, slots=True)
class QueueCount:
    """Messages of one queue, as the service last counted them."""

    name: str
    waiting: int
    """Messages that wait or are being handled."""
    poison: int
    """Messages that failed too often and were set aside."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message in a poison queue."""

    queue: str
    """The queue that it came from."""
    body: bytes
    remove: Callable[[], Awaitable[None]]
    """Take it out of the poison queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cause about one subject, with the number of times it arose. Times are unix seconds."""

    source: str
    """A `Source`, as text in what a table returns."""
    subject: str
    """Resource id, field or setting; never an event's body."""
    cause: str
    remedy: str = ""
    first_at: float = 0.0
    last_at: float = 0.0
    count: int = 1
    """How often it arose; in a note, how often since the last note."""
    message: str = ""
    """JSON of the message that was set aside, cut where it is long; empty for other problems."""


def problem_of(error: AppError, source: str, subject: str = "", *, remedy: str = "") -> Problem:
    """Return an error as a problem; `remedy` is used if the error has none."""
    return Problem(
        source=source,
        subject=subject or error.subject,
        cause=error.message,
        remedy=error.remedy or remedy,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One message. Times are unix seconds."""

    key: str
    queue: str
    body: bytes
    begun_by: tuple[str, ...] = ()
    """Ids of the deliveries that began it and did not end it; the last one may still run."""
    alive_at: float = 0.0
    sent_at: float = 0.0
    """When the last copy was sent, or when it becomes visible."""
    done_at: float = 0.0
    """When it was done after a crash; until this is forgotten, its late original is dropped."""
    second_round: bool = False
    """It was in the poison queue, or killed too often, and was sent once more."""
    problem: Problem | None = None
    """Why it was set aside; None if it is not."""
    etag: str = ""
    """Version of the stored row, empty for a new one."""

    def is_alive(self, now: float) -> bool:
        """Return whether the last delivery that began it may still run."""
        return bool(self.begun_by) and not self.done_at and now - self.alive_at < ALIVE_S

    def is_lost(self, now: float) -> bool:
        """Return whether to send a copy now."""
        waits = now - self.sent_at < AGAIN_S
        return not self.done_at and not waits and not self.is_alive(now)


def work_of(queue: str, body: bytes) -> Work:
    """Return the work of a message on this queue."""
    key = hashlib.blake2b(queue.encode() + b" " + body, digest_size=20).hexdigest()
    return Work(key=key, queue=queue, body=body)
