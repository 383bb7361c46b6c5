"""Relay one account's jobs: read, convert, save, send, save.

Storage is touched per account, not per job: one query, one write before sending and one after.
One job's failure or slowness is its own: it neither stops nor delays the others, nor fails the
message. docs/crash.md says what survives where.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import batched
from typing import Final

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, ConflictError, TemporaryError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.relay.state import Happened, RelayState
from finetune_wandb.model.secret import Secret
from finetune_wandb.relay.passes.closing import NATIVE, Closing
from finetune_wandb.relay.passes.job_pass import JobOutcome, JobPass
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.place import confirm_end
from finetune_wandb.relay.ports import WHOLE_JOBS, PassContext, RelayOptions, RelayPorts, unexpected

_AT_ONCE: Final = 20
_UNREAD_S: Final = 600.0
_HOLD_S: Final = 55.0
"""How long a job that is still being read is left alone by other workers, renewed until it is read:
a crash costs this and a tick."""


async def relay_account(
    account: RelayAccount,
    jobs: Sequence[Job],
    *,
    ports: RelayPorts,
    clock: Callable[[], float],
    options: RelayOptions,
    force: bool = False,
    hurry: bool = False,
    listed_at: float | None = None,
) -> list[JobOutcome]:
    """Bring the runs of these jobs up to date; return one outcome each, in their order.

    `hurry` tries jobs at once that were set aside. `force` looks again at complete ones too: reads
    them whole and asks W&B whether their runs are still there. `listed_at` is when the job objects
    were read (unix seconds; None: now); jobs that were relayed from newer ones are left alone.
    Raises TemporaryError only where nothing could be recorded (the cursors cannot be read).
    """
    # A listing that moved while it was read names a job twice; two passes of it would be two
    # workers on one cursor.
    jobs = list({job.id: job for job in jobs}.values())
    if not jobs:
        return []
    no_key: AppError | None = None
    try:
        key = await ports.keys.run_key(account.secret)
    except AppError as error:
        key, no_key = RunKey("", Secret("")), error
    context = PassContext(account, ports, options, key, clock, full=force)
    work = _Work(context, no_key, hurry, listed_at or clock())
    # Values of running jobs do not wait for those of jobs that are over.
    outcomes = await work.relay([job for job in jobs if not job.is_terminal])
    for part in batched((job for job in jobs if job.is_terminal), WHOLE_JOBS, strict=False):
        async with ports.whole:
            outcomes.extend(await work.relay(part))
    found = {outcome.job: outcome for outcome in outcomes}
    return [found[job.id] for job in jobs]


@dataclass(slots=True)
class _Work:
    """The jobs of one message, group by group."""

    context: PassContext
    no_key: AppError | None
    hurry: bool
    listed_at: float
    limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def relay(self, jobs: Sequence[Job]) -> list[JobOutcome]:
        """Read the jobs' cursors and relay those that are due."""
        if not jobs:
            return []
        context, now = self.context, self.context.clock()
        account = context.account.key
        cursors = await context.ports.cursors.read(account, [job.id for job in jobs])
        outcomes: list[JobOutcome] = []
        due: list[JobPass] = []
        waiting: list[JobPass] = []
        for job in jobs:
            cursor = cursors.get(job.id) or Cursor(account, job.id)
            state = cursor.relay_state
            rests = (
                cursor.retry_at > now
                and state != RelayState.DETACHED  # it goes on at once
                and (state == RelayState.ENDING or not self.hurry)
            )
            if cursor.is_unreadable:
                outcomes.append(_not_read(cursor))
            elif cursor.busy_until > now:
                outcomes.append(JobOutcome(job.id, "overtaken"))
            elif cursor.listed_at > self.listed_at or (
                state == RelayState.COMPLETE and not context.full
            ):
                outcomes.append(JobOutcome(job.id, state))
            elif context.options.skip_native and job.wandb is not None:
                outcomes.append(await self._skip(job, cursor))
            elif (memory := Memory.readable(cursor)) is None:
                cursor.set_aside_unread()
                cursor.retry_at = now + _UNREAD_S
                await context.ports.cursors.save([cursor])
                outcomes.append(_not_read(cursor))
            else:
                item = JobPass(job, cursor, memory, context)
                cursor.listed_at = self.listed_at
                (waiting if rests and not context.full else due).append(item)
        # A job that was set aside still has a run, which must not be taken for a crashed one.
        await self._each(waiting if self.no_key is None else (), JobPass.beat)
        outcomes += [JobOutcome(item.job.id, item.cursor.relay_state) for item in waiting]
        return outcomes + (await self._relay(due) if due else [])

    async def _relay(self, due: list[JobPass]) -> list[JobOutcome]:
        if self.no_key is not None:
            for item in due:
                item.key_missing = True
                item.fail(self.no_key)
        await self._prepare(due)
        reading = {
            item: asyncio.create_task(self._one(item, JobPass.read_and_fill))
            for item in due
            if item.is_open
        }
        try:
            await self._follow(reading)
        finally:
            for task in reading.values():
                task.cancel()
        await self._close([item for item in due if item not in reading])
        await self._save([item for item in due if item.is_stale and item.has_changed])
        await self._undo([item for item in due if item.is_lost and item.has_posted])
        return [item.outcome() for item in due]

    async def _prepare(self, items: list[JobPass]) -> None:
        """Ask for runs in doubt, then send what a pass that died had saved: later rows follow it."""
        await self._each([item for item in items if item.must_verify], JobPass.verify)
        leftover = [item for item in items if item.is_open and item.cursor.outbox]
        # Saved as it is: of two workers that found the same, one is lost before it sends.
        await self._save(leftover)
        await self._each(leftover, JobPass.send)
        await self._save([item for item in leftover if item.is_open])

    async def _follow(self, reading: dict[JobPass, asyncio.Task[None]]) -> None:
        """Go on with the jobs that are read; those that take longer follow on their own."""
        if not reading:
            return
        await asyncio.wait(reading.values(), timeout=self.context.ports.patience_s)
        late = {item: task for item, task in reading.items() if not task.done()}
        read = [item for item in reading if item not in late]
        await asyncio.gather(self._send(read), self._wait_for(late))

    async def _wait_for(self, late: dict[JobPass, asyncio.Task[None]]) -> None:
        """Keep other workers off the jobs that are still being read, and their runs alive."""
        ports, started = self.context.ports, self.context.clock()
        while late:
            done, _ = await asyncio.wait(
                late.values(), timeout=ports.hold_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                await self._follow(late)
                return
            if self.context.clock() - started > ports.budget_s:
                for item, task in late.items():
                    task.cancel()
                    item.fail(
                        TemporaryError(
                            f"reading the job took longer than {ports.budget_s / 60:.0f} minutes",
                            subject=item.job.id,
                            remedy="retried with the next tick; check how fast the fine-tuning API"
                            " answers",
                        )
                    )
                await self._close(list(late))
                return
            for item in late:
                item.hold(self.context.clock() + _HOLD_S)
            await self._save(list(late))
            await self._each(late, JobPass.beat)

    async def _send(self, items: list[JobPass]) -> None:
        """Save, send and save again until nothing is left of what was read; then close."""
        active = [item for item in items if item.is_open]
        while active:
            saving = [item for item in active if item.cursor.outbox or item.must_save]
            for item in saving:
                if not item.cursor.outbox:
                    item.memory.put_into(item.cursor)
            await self._save(saving)
            await self._each(active, JobPass.send)
            active = [item for item in saving if item.has_more]
            await self._save(active)
            await self._each(active, JobPass.fill)
            active = [item for item in active if item.is_open]
        await self._close(items)

    async def _close(self, items: list[JobPass]) -> None:
        """Raise alerts, look at ends, and save where each job stands."""
        items = [item for item in items if not (item.is_lost or item.is_stale)]
        await self._each(items, JobPass.conclude)
        for item in items:
            item.settle()
        await self._save([item for item in items if item.has_changed])
        # Where storage did not take a cursor, the one that it has gets the cause.
        refused = [item for item in items if item.is_reverted]
        for item in refused:
            item.settle()
        await self._save(refused)
        failed = [item for item in items if item.error is not None]
        await asyncio.gather(*(self._one(item, JobPass.beat_anyway) for item in failed))
        revived = [item for item in items if item.is_revived]
        await self._each(revived, JobPass.set_pending)
        await self._save([item for item in revived if item.is_open])

    async def _undo(self, overtaken: list[JobPass]) -> None:
        """Give a run its end back where another worker ended it while this one was sending.

        Rows cannot be harmed: they were the same bytes at the same offsets.
        """
        if not overtaken:
            return
        ports, key = self.context.ports, self.context.key
        jobs = [item.job.id for item in overtaken]
        for cursor in (await ports.cursors.read(self.context.account.key, jobs)).values():
            if memory := Memory.readable(cursor):
                with suppress(AppError):  # the last look, or the next closing, asks again
                    await confirm_end(cursor, memory, ports.sink, key)

    async def _each(
        self, items: Iterable[JobPass], step: Callable[[JobPass], Awaitable[None]]
    ) -> None:
        """Run one step of the passes that may go on, at most so many at once."""
        await asyncio.gather(*(self._one(item, step) for item in items if item.is_open))

    async def _one(self, item: JobPass, step: Callable[[JobPass], Awaitable[None]]) -> None:
        """Run one step of a pass; whatever it raises stays with the pass."""
        async with self.limit:
            try:
                await step(item)
            except AppError as error:
                item.fail(error)
            except Exception as error:
                item.fail(unexpected(error, "relaying", item.job.id))

    async def _save(self, items: Sequence[JobPass]) -> None:
        """Save the passes' cursors; one that another worker saved first is lost.

        A pass whose cursor storage cannot hold fails, and goes back to what is stored of its job.
        """
        if not items:
            return
        unsaved = await self.context.ports.cursors.save([item.cursor for item in items])
        refused = [job for job, why in unsaved.items() if not isinstance(why, ConflictError)]
        key = self.context.account.key
        stored = await self.context.ports.cursors.read(key, refused) if refused else {}
        for item in items:
            item.stored_at = self.context.clock()
            why = unsaved.get(item.job.id)
            if isinstance(why, ConflictError):
                item.is_lost = True
            elif why is not None:
                item.revert(stored.get(item.job.id) or Cursor(key, item.job.id), why)

    async def _skip(self, job: Job, cursor: Cursor) -> JobOutcome:
        """Leave a job to its own integration, visibly; a run that is open ends with the reason."""
        if (cursor.relay_state, cursor.status) != (RelayState.SKIPPED, job.status):
            is_closed = True
            memory = Memory.readable(cursor)
            if cursor.run is not None and memory:
                key = self.no_key or self.context.key
                closing = Closing(self.context.ports, key, self.context.clock())
                is_closed = await closing.end(cursor, memory, NATIVE)
            cursor.move(Happened.NATIVE)
            # Without a status the finder sends the job again, until its run has its end.
            cursor.status = job.status if is_closed else ""
            cursor.model, cursor.retry_at = job.model, 0.0
            cursor.created_at, cursor.finished_at = job.created_at, job.finished_at
            cursor.error, cursor.remedy, cursor.notes = "", "", (NATIVE.text,)
            cursor.listed_at = self.listed_at
            await self.context.ports.cursors.save([cursor])
        return JobOutcome(job.id, cursor.relay_state)


def _not_read(cursor: Cursor) -> JobOutcome:
    return JobOutcome(cursor.job, cursor.relay_state, error=cursor.error, remedy=cursor.remedy)
