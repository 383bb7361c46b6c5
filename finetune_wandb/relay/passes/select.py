"""In which messages jobs travel to the workers."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.messages import RelayMessage
from finetune_wandb.model.relay.job import is_job_id, reduce_job

JOBS_PER_MESSAGE: Final = 20
_MESSAGE_BYTES: Final = 40_000
"""A queue message holds 64 KiB after base64."""


def due_jobs(listed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return listed jobs, each once, reduced to what a pass reads of them."""
    return list({raw["id"]: reduce_job(raw) for raw in listed if is_job_id(raw.get("id"))}.values())


def messages[M: RelayMessage](
    account: RelayAccount,
    jobs: Iterable[dict[str, Any]],
    *,
    sent_at: float,
    trigger: str,
    kind: type[M],
) -> list[M]:
    """Return the messages that carry these jobs, at most JOBS_PER_MESSAGE each.

    Jobs too large for a message travel by id.
    """
    result: list[M] = []
    batch: list[dict[str, Any]] = []
    used = 0

    def flush() -> None:
        nonlocal batch, used
        if batch:
            result.append(
                kind(account=str(account.id), jobs=batch, sent_at=sent_at, trigger=trigger)
            )
        batch, used = [], 0

    for job in jobs:
        needed = len(orjson.dumps(job))
        if needed > _MESSAGE_BYTES // 2:
            job = {"id": job["id"]}
            needed = len(orjson.dumps(job))
        if len(batch) >= JOBS_PER_MESSAGE or used + needed > _MESSAGE_BYTES:
            flush()
        batch.append(job)
        used += needed
    flush()
    return result
