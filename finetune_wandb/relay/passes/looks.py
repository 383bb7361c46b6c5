"""How often a job that is over is looked at again, and what the last look must do."""

from typing import Final

from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.job import Job
from finetune_wandb.relay.passes.memory import Memory

_RECENT_S: Final = 3600.0
_LATE_LOOKS_S: Final = (5.0, 15.0, 45.0, 135.0, 300.0)
"""When a job that ended lately is looked at again: Azure still adds events and the result file
for some time after the status says that the job is over (36 s in the published tutorial)."""
_OLD_LOOKS_S: Final = (15.0,)
SLOWEST_S: Final = 240.0
"""For so long after a request was begun it may still reach W&B: each try of it has a minute."""


def is_recent(job: Job, cursor: Cursor, now: float) -> bool:
    """Say whether Azure may still add to the job; what it was at its first look it stays."""
    seen = now if cursor.ending_since is None else cursor.ending_since
    return job.finished_at is None or seen - job.finished_at < _RECENT_S


def looks_of(job: Job, cursor: Cursor, now: float) -> tuple[float, ...]:
    """Return after how many seconds from the first sight of its end the job is looked at."""
    return _LATE_LOOKS_S if is_recent(job, cursor, now) else _OLD_LOOKS_S


def is_whole_look(job: Job, cursor: Cursor, memory: Memory, now: float) -> bool:
    """Say whether this look reads everything once more: the last one at a job that ended lately.

    Late events can have early times, which a short read does not reach down to.
    """
    return is_recent(job, cursor, now) and _is_last(job, cursor, memory, now)


def needs_closing(job: Job, cursor: Cursor, memory: Memory, now: float) -> bool:
    """Say whether the run's end and summary must be sent once more before the job is complete.

    A pass that was taken for dead may have been slow: its own request can have come after the
    end, and then the run is Running again, or has an older summary.
    """
    is_over = bool(memory.doubt_at) and now >= memory.doubt_at + SLOWEST_S
    return is_over and _is_last(job, cursor, memory, now)


def _is_last(job: Job, cursor: Cursor, memory: Memory, now: float) -> bool:
    return memory.ended and memory.looks >= len(looks_of(job, cursor, now))
