"""Everything a job published, read through ports, as rows in step order.

While a job lives only its new events are read. Once it is over, the whole listing, the
checkpoints and the result files fill what the events left out; result files are streamed.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import MissingError, RejectedError, TemporaryError
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import JobsPort
from finetune_wandb.relay.published.listing import PAGE, EventRead, Hints, read_events
from finetune_wandb.relay.published.results import ResultCount, read_rows
from finetune_wandb.relay.published.rows import (
    Checkpoint,
    Conflicts,
    Row,
    parse_checkpoint,
    rows_of,
)

_CHECKPOINT_PAGES = 100


@dataclass(slots=True)
class Reading:
    """What one pass reads of a job."""

    events: EventRead
    rows: dict[int, Row]
    """Values of events and checkpoints by step."""
    checkpoints: list[Checkpoint]
    """The job's checkpoints as they are now, where they were read."""
    notes: list[str]
    """What could not be used, in plain words."""
    result_files: tuple[str, ...] = ()
    """Ids of the result files to stream after the rows."""
    results_read: list[str] = field(default_factory=list)
    """Those that need no second look: read to their end, or of no use."""
    broken: TemporaryError | None = None
    """Why a result file was not read to its end; another look may bring the rest."""
    not_finite: bool = False
    """A value of a result file was not finite, so the run cannot show it."""


async def read_job(
    jobs: JobsPort,
    account: RelayAccount,
    job: Job,
    hints: Hints,
    *,
    full: bool,
    with_checkpoints: bool,
) -> Reading:
    """Read the events that may be new, or all of them if `full`, and the checkpoints where wanted.

    The result files are left to `stream_rows`.
    """
    notes: list[str] = []
    try:
        found = await read_events(
            lambda after: jobs.list_events(account, job.id, after, PAGE), hints, full=full
        )
    except (MissingError, RejectedError) as error:
        if not job.is_terminal:
            raise
        # Checkpoints and result files of a job that is over have values, too.
        found = EventRead(hints=hints)
        notes.append(f"events could not be read: {error.message}")
    if found.unusable:
        notes.append(f"{found.unusable} events had neither metrics nor a message")
    if found.stepless:
        notes.append(f"{found.stepless} events had numbers but no step to put them at")
    if found.looped:
        notes.append("the event listing came back to itself before its end")
    checkpoints: list[Checkpoint] = []
    if with_checkpoints:
        checkpoints, more = await list_checkpoints(jobs, account, job.id)
        notes += more
    conflicts = Conflicts()
    rows = rows_of(found.events, checkpoints, conflicts)
    notes.extend(conflicts.notes("events and checkpoints"))
    return Reading(found, rows, checkpoints, notes)


async def list_checkpoints(
    jobs: JobsPort, account: RelayAccount, job: str
) -> tuple[list[Checkpoint], list[str]]:
    """Return a job's checkpoints in the service's order, and notes on what could not be read."""
    found: list[Checkpoint] = []
    notes: list[str] = []
    unusable = 0
    after: str | None = None
    for _ in range(_CHECKPOINT_PAGES):
        try:
            page = await jobs.list_checkpoints(account, job, after, PAGE)
        except (MissingError, RejectedError) as error:
            # Methods without checkpoints answer 404 or 400; values come from the other sources.
            notes.append(f"checkpoints could not be read: {error.message}")
            break
        usable = [one for item in page.items if (one := parse_checkpoint(item))]
        found += usable
        unusable += page.unusable + len(page.items) - len(usable)
        last = page.items[-1].get("id") if page.items else None
        if not page.has_more or not isinstance(last, str) or last == after:
            break
        after = last
    if unusable:
        notes.append(f"{unusable} checkpoints had no step or no metrics")
    return found, notes


async def stream_rows(
    jobs: JobsPort, account: RelayAccount, reading: Reading, *, patient: bool
) -> AsyncIterator[list[Row]]:
    """Yield every row in step order, some at a time: events and checkpoints, then what each
    result file adds, in the job's order: every value of it that they have not.

    A result file that cannot be used gives a note, and the others go on. One that breaks off
    raises its TemporaryError while `patient`, else it is noted as `broken`.
    """
    known = sorted(reading.rows.values(), key=_by_step)
    place = 0
    for file in reading.result_files:
        count = ResultCount()
        try:
            content = jobs.read_file(account, file)
            async for batch in read_rows(content, count, reading.rows):
                # What comes before the batch's last step, or at it, is due with it.
                end = bisect_right(known, max(map(_by_step, batch)), lo=place, key=_by_step)
                yield _merged(known[place:end], batch)
                place = end
        except (RejectedError, MissingError) as error:
            # The job can name its file a moment before it can be read.
            if isinstance(error, RejectedError):
                reading.results_read.append(file)
            reading.notes.append(f"result file {file} could not be used: {error.message}")
        except TemporaryError as error:
            if patient:
                raise
            reading.broken = TemporaryError(
                f"result file {file} could not be read to its end: {error.message}",
                subject=file,
                remedy="re-sync the job with force to try again",
                retry_after=error.retry_after,
            )
        else:
            reading.results_read.append(file)
        reading.not_finite = reading.not_finite or count.not_finite
        reading.notes.extend(count.notes(file))
    yield known[place:]


def _by_step(row: Row) -> int:
    return row.step


def _merged(first: list[Row], second: list[Row]) -> list[Row]:
    """Return the rows of both in step order; those of one step as one, the first's values stand."""
    rows = {row.step: row for row in first}
    extra: list[Row] = []
    for row in second:
        if not row.values:
            continue
        if (known := rows.get(row.step)) is None:
            extra.append(row)
        else:
            rows[row.step] = Row(row.step, {**row.values, **known.values}, known.at)
    return sorted((*rows.values(), *extra), key=_by_step)
