"""Which of an account's listed jobs have work, and in which messages they travel."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import JobSeen
from finetune_wandb.model.job import is_job_id
from finetune_wandb.model.job_object import reduce_job
from finetune_wandb.model.messages import RelayMessage

JOBS_PER_MESSAGE: Final = 20
_MESSAGE_BYTES: Final = 40_000
"""A queue message holds 64 KiB after base64."""
CLOSED: Final = frozenset({"complete", "skipped"})


def closed_states(*, skip_native: bool) -> frozenset[str]:
    """Return the states in which a job needs no pass: a job that was skipped does, once native
    jobs are no longer left to their own integration."""
    return CLOSED if skip_native else CLOSED - {"skipped"}


def due_jobs(
    listed: Iterable[Mapping[str, Any]],
    seen: Mapping[str, JobSeen],
    *,
    now: float,
    closed: frozenset[str] = CLOSED,
) -> list[dict[str, Any]]:
    """Return the listed jobs that a pass may have something to do for, reduced for a message."""
    due: dict[str, dict[str, Any]] = {}
    for raw in listed:
        job_id = raw.get("id")
        if not is_job_id(job_id):
            continue
        known = seen.get(job_id)
        if known and (known.relay_state in closed or known.retry_at > now):
            continue
        due[job_id] = reduce_job(raw)
    return list(due.values())


def messages(
    account: RelayAccount,
    jobs: Iterable[dict[str, Any]],
    *,
    sent_at: float,
    trigger: str,
    size: Any,
) -> list[RelayMessage]:
    """Return the messages that carry these jobs, at most JOBS_PER_MESSAGE each.

    `size` returns a value's length in bytes as JSON. Jobs too large for a message travel by id.
    """
    result: list[RelayMessage] = []
    batch: list[dict[str, Any]] = []
    used = 0

    def flush() -> None:
        nonlocal batch, used
        if batch:
            result.append(
                RelayMessage(account=str(account.id), jobs=batch, sent_at=sent_at, trigger=trigger)
            )
        batch, used = [], 0

    for job in jobs:
        needed = size(job)
        if needed > _MESSAGE_BYTES // 2:
            job = {"id": job["id"]}
            needed = size(job)
        if len(batch) >= JOBS_PER_MESSAGE or used + needed > _MESSAGE_BYTES:
            flush()
        batch.append(job)
        used += needed
    flush()
    return result
