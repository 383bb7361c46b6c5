"""Makes a request of what was taken off a job's sources, and notes in the cursor what is in it.

Cursor and outbox are saved as one: a value is claimed when the request that holds it is stored.
"""

from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.job import Job
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.outbox import Taken
from finetune_wandb.relay.run import wire
from finetune_wandb.relay.run.cost import Meter


def put_into_outbox(
    taken: Taken, cursor: Cursor, job: Job, memory: Memory, *, meter: Meter, now: float
) -> None:
    """Put one request into the cursor's outbox. `now` is unix seconds.

    The cursor's `last_value_at` counts what was taken already; `memory.ended` says whether the
    request ends the run.
    """
    exitcode = wire.exit_code(job.status) if memory.ended else None
    summary = memory.summary.render(
        job, rows=cursor.rows + len(taken.rows), last_at=cursor.last_value_at, meter=meter
    )
    cursor.outbox = wire.body(
        rows=taken.rows,
        row_offset=cursor.rows,
        lines=taken.lines,
        line_offset=cursor.lines,
        summary=summary,
        exitcode=exitcode,
    )
    if memory.ended:
        memory.end = wire.body(
            rows=(), row_offset=0, lines=(), line_offset=0, summary=summary, exitcode=exitcode
        ).decode()
    if taken.top_step is not None:
        memory.value_seen_at = now
        cursor.last_step = max(taken.top_step, cursor.last_step or 0)
    cursor.rows += len(taken.rows)
    cursor.lines += len(taken.lines)
    cursor.values = memory.ledger.count
    cursor.curve = memory.curve.dump()
    cursor.status = job.status
    cursor.state = memory.dump()
