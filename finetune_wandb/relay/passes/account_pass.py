"""Relay one account's jobs: read, convert, save, send, save.

Storage is touched per account, not per job: one query, one write before sending and one after.
One job's failure is its own outcome; it neither stops the others nor fails the message.
"""

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import batched
from typing import Final

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError, ConflictError, TemporaryError
from finetune_wandb.model.job import Job
from finetune_wandb.model.relay_ports import CursorsPort, KeysPort, RunKey
from finetune_wandb.model.secret import Secret
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.passes.job_pass import JobPass
from finetune_wandb.relay.passes.outcome import JobOutcome, outcome_of
from finetune_wandb.relay.ports import WHOLE_JOBS, RelayPorts

log = logging.getLogger(__name__)

_AT_ONCE: Final = 20


async def relay_account(
    account: RelayAccount,
    jobs: Sequence[Job],
    *,
    ports: RelayPorts,
    clock: Callable[[], float],
    options: RelayOptions,
    force: bool = False,
    hurry: bool = False,
) -> list[JobOutcome]:
    """Bring the runs of these jobs up to date; return one outcome each, in their order.

    `hurry` tries jobs at once that were set aside. `force` looks again at complete ones too: reads
    them whole and asks W&B whether their runs are still there. Raises TemporaryError only where
    nothing could be recorded at all (the cursors cannot be read).
    """
    # A listing that moved while it was read names a job twice; two passes of it would be two
    # workers on one cursor.
    jobs = list({job.id: job for job in jobs}.values())
    if not jobs:
        return []
    key = await _key(account, ports.keys)
    outcomes: dict[str, JobOutcome] = {}

    async def relay(some: Sequence[Job]) -> None:
        for outcome in await _relay_some(
            account, some, ports, options, clock, key, force=force, hurry=hurry
        ):
            outcomes[outcome.job] = outcome

    # Values of running jobs do not wait for those of jobs that are over.
    await relay([job for job in jobs if not job.is_terminal])
    for part in batched((job for job in jobs if job.is_terminal), WHOLE_JOBS, strict=False):
        async with ports.whole:
            await relay(part)
    return [outcomes[job.id] for job in jobs if job.id in outcomes]


async def _relay_some(
    account: RelayAccount,
    jobs: Sequence[Job],
    ports: RelayPorts,
    options: RelayOptions,
    clock: Callable[[], float],
    key: tuple[RunKey, AppError | None],
    *,
    force: bool,
    hurry: bool,
) -> list[JobOutcome]:
    """Read the jobs' cursors and relay those that are due."""
    if not jobs:
        return []
    cursors = await ports.cursors.read(account.key, [job.id for job in jobs])
    outcomes: list[JobOutcome] = []
    due: list[tuple[Job, Cursor]] = []
    for job in jobs:
        cursor = cursors.get(job.id) or Cursor(account.key, job.id)
        # The finder may have sent it in the belief that nothing has set it aside since.
        waits = cursor.retry_at > clock() and (cursor.relay_state == "ending" or not hurry)
        if not force and (waits or cursor.relay_state == "complete"):
            outcomes.append(JobOutcome(job.id, cursor.relay_state))
        elif options.skip_native and job.wandb is not None:
            outcomes.append(await _skip(job, cursor, ports.cursors))
        else:
            due.append((job, cursor))
    if due:
        outcomes += await _relay(account, due, ports, options, clock, key, full=force)
    return outcomes


async def _relay(
    account: RelayAccount,
    due: list[tuple[Job, Cursor]],
    ports: RelayPorts,
    options: RelayOptions,
    clock: Callable[[], float],
    key_or_error: tuple[RunKey, AppError | None],
    *,
    full: bool,
) -> list[JobOutcome]:
    key, no_key = key_or_error
    before = {cursor.job: copy.copy(cursor) for _, cursor in due}
    passes = [
        JobPass(
            *(job, cursor, account), ports=ports, options=options, key=key, clock=clock, full=full
        )
        for job, cursor in due
    ]
    lost: set[str] = set()
    active = [item for item in passes if not item.is_stale]
    if no_key is not None:
        for item in active:
            item.key_missing = True
            item.fail(no_key)
        active = []
    limit = asyncio.Semaphore(_AT_ONCE)

    # A body left over from a pass that died comes first: later rows stand behind it.
    # That pass may only have been slow, and this one's request come late: it is announced.
    leftover = [item for item in active if item.cursor.outbox]
    for item in leftover:
        item.announce()
    lost |= await _save(ports, leftover)
    leftover = [item for item in leftover if item.error is None and item.job.id not in lost]
    await _each(limit, leftover, JobPass.send)
    lost |= await _save(ports, [item for item in leftover if item.error is None])
    active = [item for item in active if item.error is None and item.job.id not in lost]

    if full:
        probing = [item for item in active if item.probe_body]
        for item in probing:
            item.announce()
        lost |= await _save(ports, probing)
        probing = [item for item in probing if item.error is None and item.job.id not in lost]
        await _each(limit, probing, JobPass.probe)
        active = [item for item in active if item.error is None and item.job.id not in lost]
    step = JobPass.read_and_fill
    while active:
        filled = await _each(limit, active, step)
        step = JobPass.fill
        outgoing = [item for item, has in zip(active, filled, strict=True) if has]
        quiet = [
            item
            for item, has in zip(active, filled, strict=True)
            if not has and item.error is None and item.needs_request
        ]
        for item in quiet:
            item.announce()
        lost |= await _save(ports, [*outgoing, *quiet])
        sending = [
            item for item in (*outgoing, *quiet) if item.error is None and item.job.id not in lost
        ]
        await _each(limit, sending, JobPass.send)
        more = [item for item in sending if item.has_more]
        if more:
            lost |= await _save(ports, more)
        active = [item for item in more if item.error is None and item.job.id not in lost]

    ended = [item for item in passes if item.job.id not in lost and not item.is_stale]
    for item in ended:
        if item.error is None:
            with _held(item):
                item.find_alerts()
    await _each(limit, [item for item in ended if item.has_alerts], JobPass.alert)
    for item in ended:
        item.settle()
    changed = [item for item in ended if before[item.job.id] != item.cursor]
    lost |= await _save(ports, changed)
    # Where storage did not take a cursor, the one that it has gets the cause.
    refused = [item for item in changed if item.is_reverted]
    for item in refused:
        item.settle()
    lost |= await _save(ports, refused)
    overtaken = [item for item in passes if item.job.id in lost and item.has_posted]
    await _mend(account, overtaken, ports, key)
    return [outcome_of(item, lost=item.job.id in lost) for item in passes]


async def _key(account: RelayAccount, keys: KeysPort) -> tuple[RunKey, AppError | None]:
    try:
        return await keys.run_key(account.secret), None
    except AppError as error:
        return RunKey("", Secret("")), error


async def _each[T](
    limit: asyncio.Semaphore,
    passes: Sequence[JobPass],
    step: Callable[[JobPass], Awaitable[T]],
) -> list[T | None]:
    """Run one step of every pass, at most so many at once; an error stays with its pass."""

    async def one(item: JobPass) -> T | None:
        async with limit:
            with _held(item):
                return await step(item)
            return None

    if not passes:
        return []
    return list(await asyncio.gather(*(one(item) for item in passes)))


@contextmanager
def _held(item: JobPass) -> Iterator[None]:
    """Have whatever a pass raises stay with it."""
    try:
        yield
    except AppError as error:
        item.fail(error)
    except Exception as error:  # one job's surprise must not stop the others
        log.exception("job %s: unexpected", item.job.id)
        item.fail(
            TemporaryError(
                f"unexpected {type(error).__name__} while relaying",
                subject=item.job.id,
                remedy="tried again with the next pass; the traceback is in the log",
            )
        )


async def _save(ports: RelayPorts, passes: Sequence[JobPass]) -> set[str]:
    """Save the passes' cursors; return the jobs that another worker saved first.

    A pass whose cursor storage cannot hold fails, and goes back to what is stored of its job.
    """
    if not passes:
        return set()
    unsaved = await ports.cursors.save([item.cursor for item in passes])
    refused = {job: why for job, why in unsaved.items() if not isinstance(why, ConflictError)}
    if refused:
        account = passes[0].cursor.account
        stored = await ports.cursors.read(account, list(refused))
        for item in passes:
            if error := refused.get(item.job.id):
                item.revert(stored.get(item.job.id) or Cursor(account, item.job.id), error)
    return unsaved.keys() - refused.keys()


async def _mend(
    account: RelayAccount, overtaken: Sequence[JobPass], ports: RelayPorts, key: RunKey
) -> None:
    """Give a run its end back where another worker ended it while this one was still sending.

    A late request without an end would leave the run Running; rows cannot be harmed, they were
    the same bytes at the same offsets.
    """
    if not overtaken:
        return
    stored = await ports.cursors.read(account.key, [item.job.id for item in overtaken])
    for item in overtaken:
        cursor = stored.get(item.job.id)
        end = cursor.state.get("end") if cursor else ""
        if cursor and cursor.run and end:
            try:
                await ports.sink.post(cursor.run, end.encode(), key=key)
            except AppError as error:
                log.warning("job %s: its run's end could not be repeated: %s", item.job.id, error)


async def _skip(job: Job, cursor: Cursor, cursors: CursorsPort) -> JobOutcome:
    """Leave a job to its own integration, visibly."""
    if (cursor.relay_state, cursor.status) != ("skipped", job.status):
        cursor.relay_state, cursor.status, cursor.model = "skipped", job.status, job.model
        cursor.created_at, cursor.finished_at = job.created_at, job.finished_at
        cursor.notes = ("the job carries its own W&B integration (NATIVE_JOBS=skip)",)
        await cursors.save([cursor])
    return JobOutcome(job.id, "skipped")
