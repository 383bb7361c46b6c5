"""When a job is looked at next, and in which state a pass leaves it.

A job that is over is looked at a few times more, since Azure publishes late. The last look asks
W&B what it holds, see `job_pass.JobPass.confirm_end`.
"""

from typing import Final

from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.state import Happened, RelayState
from finetune_wandb.relay.passes.memory import Memory

_RECENT_S: Final = 3600.0
SLOWEST_S: Final = 300.0
"""A request that was begun before a run's end reaches W&B within this time or never: it begins at
most a minute after its cursor was stored, and its tries take four minutes at most."""
_LATE_LOOKS_S: Final = (5.0, 15.0, 45.0, 135.0, SLOWEST_S)
"""Looks at a job that ended within the hour: Azure adds events and the result file for some time
after the status says that the job is over (36 s in the published tutorial)."""
_OLD_LOOKS_S: Final = (SLOWEST_S,)
_LOOKS_BEFORE_ARTIFACTS: Final = 3
"""Looks for a result file before artifacts are logged without one."""
_PARK_S: Final = 60.0
_LONGEST_S: Final = 3600.0
_DOUBT_S: Final = 15.0
"""Pause before W&B is asked whether a run that answered 404 is really gone."""
_FILE_LOOKS: Final = 8
"""Further looks for a result file that breaks off each time, over about three hours in all. Then
the job is complete without the rest, and its status says so."""


def is_recent(job: Job, cursor: Cursor, now: float) -> bool:
    """Say whether Azure may still add to the job. The answer is that of the first look."""
    seen = now if cursor.ending_since is None else cursor.ending_since
    return job.finished_at is None or seen - job.finished_at < _RECENT_S


def _looks(job: Job, cursor: Cursor, now: float) -> tuple[float, ...]:
    """Return after how many seconds from the first sight of its end the job is looked at."""
    return _LATE_LOOKS_S if is_recent(job, cursor, now) else _OLD_LOOKS_S


def is_last_look(job: Job, cursor: Cursor, memory: Memory, now: float) -> bool:
    """Say whether this look at an ended job is the last one that is planned."""
    return memory.ended and memory.looks >= len(_looks(job, cursor, now))


def settle(
    cursor: Cursor,
    job: Job,
    memory: Memory,
    *,
    now: float,
    broken: TemporaryError | None,
    unfinished: bool,
) -> None:
    """Set state and next look after a pass that went through.

    `broken` says why a result file was not read to its end: it is looked at some times more. An
    `unfinished` read of an ended job goes on with the next tick.
    """
    due = cursor.retry_at if cursor.relay_state == RelayState.ENDING else 0.0
    cursor.failures, cursor.error, cursor.remedy, cursor.retry_at = 0, "", "", 0.0
    cursor.status = job.status
    if not memory.ended:
        cursor.move(Happened.RELAYED)
        return
    happened = Happened.ENDED
    if broken is not None:
        cursor.error, cursor.remedy = broken.message, broken.remedy
    if unfinished:
        pass
    elif now < due:
        # A forced pass came early; the planned looks are for late values.
        cursor.retry_at = due
    else:
        if cursor.ending_since is None:
            cursor.ending_since = now
        looks = _looks(job, cursor, now)
        if memory.looks < len(looks):
            cursor.retry_at = cursor.ending_since + looks[memory.looks]
            memory.looks += 1
        elif broken and memory.file_looks < _FILE_LOOKS:
            cursor.retry_at = now + _growing(_PARK_S, memory.file_looks)
            memory.file_looks += 1
        else:
            happened = Happened.SETTLED
        if broken and broken.retry_after and happened is Happened.ENDED:
            cursor.retry_at = max(cursor.retry_at, now + min(broken.retry_after, _LONGEST_S))
    cursor.move(happened)


def _growing(first: float, times: int) -> float:
    """Return a pause in seconds that doubles each time."""
    return min(first * 2.0 ** min(times, 8), _LONGEST_S)


def artifacts_due(cursor: Cursor, job: Job, memory: Memory, now: float) -> bool:
    """Say whether the artifacts of an ended job are to be asked for now.

    The message that asks for them is sent after the cursor is saved; should the process die in
    between, the last look at the job asks again.
    """
    if not memory.ended or memory.artifacts == "done":
        return False
    if memory.artifacts == "sent":
        return cursor.relay_state == RelayState.COMPLETE
    has_all = bool(job.result_files) and set(job.result_files) <= set(memory.results_read)
    return (
        has_all
        or job.status != "succeeded"
        or not is_recent(job, cursor, now)
        or memory.looks > _LOOKS_BEFORE_ARTIFACTS
        or cursor.relay_state == RelayState.COMPLETE
    )


def settle_failure(
    cursor: Cursor,
    memory: Memory,
    error: AppError,
    *,
    now: float,
    keyless: bool,
    leaves: bool,
) -> None:
    """Set state and next look after a pass that failed; what is in the outbox stays there.

    `leaves` says that the job goes to another place than the one that W&B refuses.
    """
    cursor.failures += 1
    cursor.error, cursor.remedy = error.message, error.remedy
    if isinstance(error, RejectedError) and error.code in ("deleted", "other"):
        _start_over(cursor, memory, memory.generation + 1)
    elif leaves:
        _start_over(cursor, memory, 1)
    elif isinstance(error, MissingError) and error.code == "gone":
        _start_over(cursor, memory, memory.generation)
    elif isinstance(error, (MissingError, DeniedError)) and error.code == "run":
        # One 404 or 403 proves nothing: an ingress or a lost permission answers it too.
        memory.doubted = True
        memory.put_into(cursor)
        cursor.retry_at = now + _growing(_DOUBT_S, cursor.failures - 1)
    elif keyless:
        # Everything resumes with the next pass once a good key is in use.
        cursor.move(Happened.REFUSED)
        cursor.retry_at = 0.0
    elif isinstance(error, (DeniedError, RejectedError, MissingError)):
        cursor.move(Happened.REFUSED)
        cursor.retry_at = now + _growing(_PARK_S, cursor.failures - 1)
    elif isinstance(error, TemporaryError) and error.retry_after:
        # A pause that a service asks for is longer than a tick; nothing is asked before its end.
        cursor.retry_at = now + min(error.retry_after, _LONGEST_S)


def _start_over(cursor: Cursor, memory: Memory, generation: int) -> None:
    """Forget what the lost run held: the next pass writes all of it into a new run."""
    memory.without_run(generation).put_into(cursor)
    cursor.run = None
    cursor.rows = cursor.lines = cursor.values = 0
    cursor.last_step = cursor.last_value_at = cursor.ending_since = None
    cursor.outbox = b""
    cursor.status = ""
    cursor.retry_at = 0.0
    cursor.move(Happened.RUN_LOST)
