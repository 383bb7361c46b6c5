"""Where a pass leaves a job: live, ending, complete, or parked with a cause."""

from typing import Final

from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.job import Job
from finetune_wandb.relay.passes.looks import SLOWEST_S, is_recent, looks_of
from finetune_wandb.relay.passes.memory import Memory

_PATIENT_LOOKS: Final = 3
"""Looks for a result file before artifacts are logged without one."""
_PARK_S: Final = (60.0, 3600.0)
_FILE_LOOKS: Final = 8
"""Looks at a result file that breaks off each time, beyond those at every job that is over: they
reach over about three hours. Then the job is complete without the rest, and its status says so."""


def settle(
    cursor: Cursor,
    job: Job,
    memory: Memory,
    *,
    now: float,
    error: AppError | None,
    keyless: bool,
    with_artifacts: bool,
    broken: TemporaryError | None = None,
) -> bool:
    """Set the cursor's columns and state after a pass; say whether artifacts are to be sent for.

    `broken` says why a result file was not read to its end: it is looked at some times more.
    """
    cursor.model, cursor.created_at, cursor.finished_at = job.model, job.created_at, job.finished_at
    if error is not None:
        _after_failure(cursor, memory, error, now, keyless)
        return False
    due = cursor.retry_at if cursor.relay_state == "ending" else 0.0
    cursor.failures, cursor.error, cursor.remedy, cursor.retry_at = 0, "", "", 0.0
    cursor.status = job.status
    wants_artifacts = False
    if memory.ended:
        if broken is not None:
            cursor.error, cursor.remedy = broken.message, broken.remedy
        _after_end(cursor, job, memory, now, due, broken)
        wants_artifacts = with_artifacts and _artifacts_due(cursor, job, memory, now)
        if wants_artifacts:
            memory.artifacts = "sent"
    else:
        cursor.relay_state = "live"
    cursor.state = memory.dump()
    return wants_artifacts


def _artifacts_due(cursor: Cursor, job: Job, memory: Memory, now: float) -> bool:
    """Whether the job's artifacts are complete enough to be logged, or were lost on the way.

    The message that asks for them is sent after the cursor is saved; should the process die in
    between, the last look at the job asks again.
    """
    if memory.artifacts == "done":
        return False
    if memory.artifacts == "sent":
        return cursor.relay_state == "complete"
    has_all = bool(job.result_files) and set(job.result_files) <= set(memory.results_read)
    has_all = has_all or job.status != "succeeded"
    has_all = has_all or not is_recent(job, cursor, now)
    return has_all or memory.looks > _PATIENT_LOOKS or cursor.relay_state == "complete"


def _after_end(
    cursor: Cursor,
    job: Job,
    memory: Memory,
    now: float,
    due: float,
    broken: TemporaryError | None,
) -> None:
    if now < due:
        # Somebody looked before it was time; the looks that are due are for late values.
        cursor.relay_state, cursor.retry_at = "ending", due
        return
    if cursor.ending_since is None:
        cursor.ending_since = now
    looks = looks_of(job, cursor, now)
    cursor.relay_state = "ending"
    if memory.looks < len(looks):
        cursor.retry_at = cursor.ending_since + looks[memory.looks]
        memory.looks += 1
    elif broken and memory.file_looks < _FILE_LOOKS:
        first, longest = _PARK_S
        cursor.retry_at = now + min(first * 2**memory.file_looks, longest)
        memory.file_looks += 1
    elif memory.doubt_at:
        # Until nothing can be under way any more that does not know of the end.
        cursor.retry_at = memory.doubt_at + SLOWEST_S
    else:
        cursor.relay_state = "complete"
    if broken and broken.retry_after and cursor.relay_state == "ending":
        cursor.retry_at = max(cursor.retry_at, now + min(broken.retry_after, _PARK_S[1]))


def _after_failure(
    cursor: Cursor, memory: Memory, error: AppError, now: float, keyless: bool
) -> None:
    cursor.failures += 1
    cursor.error, cursor.remedy = error.message, error.remedy
    if isinstance(error, RejectedError) and error.code == "deleted":
        _start_over(cursor, memory.generation + 1)
    elif isinstance(error, MissingError) and error.code == "run":
        # The run is gone but its id is not refused: ask for it again, from the first row.
        _start_over(cursor, memory.generation)
    elif keyless:
        # Everything resumes with the next pass once a good key is in use.
        cursor.relay_state, cursor.retry_at = "parked", 0.0
    elif isinstance(error, (DeniedError, RejectedError, MissingError)):
        first, longest = _PARK_S
        cursor.relay_state = "parked"
        cursor.retry_at = now + min(first * 2 ** min(cursor.failures - 1, 8), longest)
    elif isinstance(error, TemporaryError) and error.retry_after:
        # A pause that a service asks for is longer than a tick; nothing is asked before its end.
        cursor.retry_at = now + min(error.retry_after, _PARK_S[1])


def _start_over(cursor: Cursor, generation: int) -> None:
    """Forget what the lost run held: the next pass writes all of it into a new run."""
    cursor.state = {"generation": generation}
    cursor.curve = {}
    cursor.run = None
    cursor.rows = cursor.lines = cursor.values = 0
    cursor.last_step = cursor.last_value_at = cursor.ending_since = None
    cursor.outbox = b""
    cursor.status = ""
    cursor.relay_state = "new"
    cursor.retry_at = 0.0
