"""One pass over one job: read what is new, put it into the outbox, send it, step by step.

The caller drives many passes at once and does the storage for all of them together:
`fill` → cursors saved → `send` → cursors saved, until nothing is left. Wherever the process
dies between the two, the next pass finds the outbox and sends the same bytes.
"""

import copy
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import TERMINAL, Job
from finetune_wandb.model.relay.state import Happened, RelayState
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.outbox import Sources, Taken, final_line, put_into_outbox
from finetune_wandb.relay.passes.place import RunPlace, beat, beat_is_due, confirm_end, deliver
from finetune_wandb.relay.passes.schedule import (
    artifacts_due,
    is_last_look,
    is_recent,
    settle,
    settle_failure,
)
from finetune_wandb.relay.ports import PassContext, joined_notes
from finetune_wandb.relay.published.sources import read_job, stream_rows
from finetune_wandb.relay.run.alerts import raise_alerts

FRESH_S: Final = 60.0
"""A request without an outbox may begin this long after its cursor was stored, see SLOWEST_S."""
_CHECKPOINTS_S: Final = 600.0
"""How often the checkpoints of a running job are read, since the best one is chosen while it runs,
and its events further into the past."""
_REVIVED: Final = -1
"""Hash of no attributes: a request with content makes a pending run Running, so that it has to be
set pending again, by the next pass where this one dies."""
_PATIENT_PASSES: Final = 3
"""Passes that fail for a result file that breaks off, before the run gets its end without it."""
STOP_NOTE: Final = "someone pressed Stop on the run in W&B; the fine-tuning job goes on"
CANCEL_NOTE: Final = "cancelled, because someone pressed Stop on the run in W&B"


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What came of one job in one pass. `values` is how many were sent."""

    job: str
    relay_state: str
    """A RelayState, `overtaken` (another worker saved the job first) or `unread` (no answer)."""
    values: int = 0
    error: str = ""
    remedy: str = ""
    key_refused: bool = False
    wants_artifacts: bool = False
    temporary: bool = False
    lag_s: float | None = None
    """How long after Azure published them the newest of these values were in W&B."""


class JobPass:
    """Mutable: holds the job, its cursor and what is still to be sent in this pass."""

    def __init__(self, job: Job, cursor: Cursor, memory: Memory, context: PassContext) -> None:
        self.job = job
        self.cursor = cursor
        self.memory = memory
        self.error: AppError | None = None
        self.key_missing = False
        self.is_lost = False
        """Another worker saved the job first."""
        self.has_posted = False
        self.is_reverted = False
        """Storage did not take the cursor; the stored one has yet to be given the cause."""
        self.sent_values = 0
        self.stored_at = context.clock()
        """When the cursor was read or stored last (unix seconds)."""
        self.is_revived = False
        """What was sent has made a pending run Running."""
        self.wants_artifacts = False
        """The job has its end, and its artifacts are to be asked for now."""
        self._before = copy.copy(cursor)
        self._is_held = self._is_reading = False
        self._context, self._ports = context, context.ports
        self._clock, self._options = context.clock, context.options
        self._sources: Sources | None = None
        self._previous_status = cursor.status
        if cursor.relay_state == RelayState.DETACHED:
            # The job is listed again: its run goes on where it ended, also where this pass fails.
            memory.ended, memory.end, memory.looks = False, "", 0
            memory.put_into(cursor)
            cursor.move(Happened.RELAYED)
            cursor.error = cursor.remedy = ""
        self.is_stale = memory.ended and not job.is_terminal
        """The job object is older than what was relayed: it cannot live after its end."""
        if self.is_stale:
            self._note(f"Azure showed the job as {job.status} after its end; its run stays ended")
        if cursor.run is None and not memory.relay_id:
            memory.relay_id = self._ports.new_id()
            memory.put_into(cursor)
        if memory.asked is None:
            memory.asked = dict(job.hyperparameters)
        memory.see_status(job, context.clock())
        self._place = RunPlace(job, context.account, memory, context.ports.sink, context.key)

    @property
    def is_open(self) -> bool:
        """Whether this pass may go on."""
        return self.error is None and not self.is_lost and not self.is_stale

    @property
    def has_changed(self) -> bool:
        """Whether there is anything to save that the table has not."""
        return self._is_held or self.cursor != self._before

    @property
    def _key_refused(self) -> bool:
        return isinstance(self.error, DeniedError) and self.error.code == "401"

    @property
    def _broken(self) -> TemporaryError | None:
        """Why a result file of the job could not be read to its end in this pass."""
        return self._sources.reading.broken if self._sources else None

    @property
    def _waits(self) -> bool:
        """Whether the job has not begun: its run is pending, and nothing is sent to it."""
        return self.job.is_waiting and not self.cursor.rows

    def hold(self, until: float) -> None:
        """Have other workers leave the job alone until then (unix seconds), once this is saved."""
        self.cursor.busy_until, self._is_held = until, True

    @property
    def must_verify(self) -> bool:
        """Whether W&B has to be asked for the run before anything else is sent there."""
        known = self.cursor.run is not None and self.memory.attributes is not None
        return known and not self._waits and (self.memory.doubted or self._context.full)

    async def verify(self) -> None:
        """Ask whether W&B still has the run. Raises MissingError `gone` where it does not."""
        await self._place.verify(self.cursor, self._clock())

    async def read_and_fill(self) -> None:
        """Read, and put the first request into the outbox, where there is one."""
        self._is_reading = True
        await self._read()
        await self.fill()
        self._is_reading = False

    async def _read(self) -> None:
        """Read the job's new values. Nothing is claimed yet."""
        job, cursor, memory = self.job, self.cursor, self.memory
        if cursor.relay_state == RelayState.SKIPPED:
            cursor.notes = ()  # they say why it was left alone
        if job.oddities:
            self._note(f"fields that could not be used: {', '.join(job.oddities)}")
        self._note(await self._place.choose(cursor))
        context, now = self._context, self._clock()
        account, jobs = context.account, context.ports.jobs
        await memory.summary.usage.measure_file(jobs, account, job, self._options.prices)
        is_last = is_recent(job, cursor, now) and is_last_look(job, cursor, memory, now)
        # The last look is whole: late events can have early times.
        is_whole = job.is_terminal and (not memory.ended or context.full or is_last)
        with_checkpoints = is_whole or self._wants_checkpoints(now)
        if with_checkpoints:
            memory.checkpoints_at = now
        hints = memory.hints.further() if with_checkpoints else memory.hints
        reading = await read_job(
            jobs, account, job, hints, full=is_whole, with_checkpoints=with_checkpoints
        )
        if job.is_terminal:
            # A file may have been named before it was whole: the last look reads it once more.
            again = context.full or (is_last and not memory.file_looks)
            done = () if again else memory.results_read
            files = reading.result_files = tuple(one for one in job.result_files if one not in done)
            # Notes about a file are written anew with each read of it.
            notes = (note for note in cursor.notes if not any(file in note for file in files))
            cursor.notes = tuple(notes)
        patient = not memory.ended and cursor.failures < _PATIENT_PASSES
        rows = stream_rows(jobs, account, reading, patient=patient)
        self._sources = Sources(job, reading, rows, self._options.best_checkpoint_metric)

    def _wants_checkpoints(self, now: float) -> bool:
        """Whether it is time to look at the checkpoints of a job that goes on."""
        if self.job.is_terminal or not self.memory.checkpoints_at:
            return False
        return self._has_paused or now - self.memory.checkpoints_at >= _CHECKPOINTS_S

    @property
    def _has_paused(self) -> bool:
        return self.job.is_paused and self._previous_status != self.job.status

    def _note(self, note: str) -> None:
        if note:
            self.cursor.notes = joined_notes(self.cursor.notes, (note,))

    async def fill(self) -> None:
        """Put the next request into the outbox, where there is one.

        Claims what it puts there, so cursor and outbox must be saved together.
        """
        cursor, job, memory, sources = self.cursor, self.job, self.memory, self._sources
        if sources is None:
            return
        known_at = memory.summary.newest_at
        taken = await sources.take(memory, offset=cursor.rows)
        if taken.fresh or memory.summary.newest_at > known_at:
            memory.value_seen_at = self._clock()
        cursor.notes = joined_notes(cursor.notes, sources.reading.notes)
        may_end = job.is_terminal and not memory.ended
        ends = may_end and sources.done and not sources.reading.events.unfinished
        if ends and (line := final_line(job, memory)):
            taken.lines.append(line)
        changed = memory.facts != (facts := memory.summary.facts_hash(job))
        if not (taken.rows or taken.lines or ends or changed):
            return
        memory.ended = memory.ended or ends
        memory.facts = facts
        memory.checkpoints_at = memory.checkpoints_at or (self._clock() if taken.rows else 0.0)
        if self._waits and not taken.rows and memory.attributes is not None:
            memory.attributes = _REVIVED
        values = cursor.values
        self._put(taken)
        self.sent_values += cursor.values - values

    def _put(self, taken: Taken) -> None:
        """Put a request into the outbox."""
        cursor, memory, now = self.cursor, self.memory, self._clock()
        meter = memory.meter(self.job, self._options.prices, now)
        put_into_outbox(taken, cursor, self.job, memory, meter=meter, now=now)
        # At once: a save from here on finds claims and request together.
        memory.put_into(cursor)

    @property
    def has_more(self) -> bool:
        return self.is_open and self._sources is not None and not self._sources.done

    @property
    def must_save(self) -> bool:
        """Whether what `send` does without an outbox has to be saved before it begins."""
        if self._place.differs(self.cursor, pending=self._waits):
            return True
        return self.beat_is_due and self._clock() - self.stored_at >= FRESH_S

    async def send(self) -> None:
        """Bring the run's attributes up to date and send the outbox, or a heartbeat when due."""
        cursor = self.cursor
        await self._place.choose(cursor)
        self.has_posted = True
        await self._place.ensure(cursor, pending=self._waits)
        if not cursor.outbox:
            await self.beat()
            return
        stopped = await deliver(cursor, self._ports.sink, self._context.key)
        now = self._clock()
        if cursor.last_value_at:
            cursor.lag_s = max(now - cursor.last_value_at, 0.0)
        cursor.posted_at = now
        if self._waits:
            self.memory.attributes, self.is_revived = _REVIVED, True
        await self._heard(stopped)

    async def set_pending(self) -> None:
        """Set the run pending again, once this pass is saved: another may have ended it."""
        await self._place.ensure(self.cursor, pending=True)
        self.memory.put_into(self.cursor)

    @property
    def beat_is_due(self) -> bool:
        """Whether W&B has to hear that the run is alive."""
        now = self._clock()
        return not self._waits and beat_is_due(self.cursor, self.memory, self._ports, now)

    async def beat(self) -> None:
        """Tell W&B that the run is alive, where that is due."""
        if self.beat_is_due:
            key, now = self._context.key, self._clock()
            await self._heard(await beat(self.cursor, self._ports, key, now))

    async def beat_anyway(self) -> None:
        """Tell W&B that the run is alive where a pass failed before anything was sent; its cause
        stays the first one."""
        if self._is_reading and not self.is_lost:
            with suppress(AppError):
                await self.beat()

    async def _heard(self, stopped: bool) -> None:
        """Answer a Stop that someone pressed on the run in W&B."""
        if not stopped or self.memory.stop_seen:
            return
        note = STOP_NOTE
        account, jobs = self._context.account, self._ports.jobs
        may_cancel = self._options.cancel_on_stop and not account.observed
        if may_cancel and not self.job.is_terminal:
            try:
                await jobs.cancel_job(account, self.job.id)
                raw = await jobs.read_job(account, self.job.id)
                if raw.get("status") not in TERMINAL | {"cancelling"}:
                    raise RejectedError(f"Azure shows the job as {raw.get('status')!s:.40}")
            except AppError as error:
                # Neither values nor alerts wait for a right that is missing or for an Azure that is
                # down; the next request tries again.
                self._note(f"{STOP_NOTE}: it could not be cancelled: {error.message}")
                return
            note = CANCEL_NOTE
        self._note(note)
        self.memory.stop_seen = True

    async def conclude(self) -> None:
        """Raise the alerts that are due; at the last look, say the run's end again where W&B shows
        another."""
        job, cursor, memory, context = self.job, self.cursor, self.memory, self._context
        if self._options.alerts and cursor.run is not None and not self._waits:
            await raise_alerts(job, cursor, memory, context, previous_status=self._previous_status)
        if is_last_look(job, cursor, memory, self._clock()):
            await confirm_end(cursor, memory, self._ports.sink, context.key)

    def fail(self, error: AppError) -> None:
        """Record why this pass stops; what is in the outbox stays there.

        What was claimed for a request that was not made is forgotten with the memory.
        """
        self.error = error
        self.memory = Memory.of(self.cursor)

    def revert(self, stored: Cursor, error: AppError) -> None:
        """Go back to the cursor that is stored, since this pass's own could not be."""
        self.sent_values -= self.cursor.values - stored.values
        self.cursor, self.is_reverted = stored, True
        self.fail(error)
        memory = self.memory
        if self.job.is_terminal and stored.run is not None and not (memory.ended or stored.outbox):
            # The run ends with its job, also without what storage does not hold.
            memory.ended = True
            self._put(Taken())

    def settle(self) -> None:
        """Set the state that the next pass starts from, once this one is through."""
        cursor, job, now = self.cursor, self.job, self._clock()
        self.is_reverted = False
        cursor.busy_until = 0.0
        cursor.model, cursor.created_at = job.model, job.created_at
        cursor.finished_at = job.finished_at
        if self.error is not None:
            keyless = self._key_refused or self.key_missing
            leaves = self._place.leaves(cursor.run, self.error)
            settle_failure(
                *(cursor, self.memory, self.error), now=now, keyless=keyless, leaves=leaves
            )
            return
        unfinished = self._sources is not None and self._sources.reading.events.unfinished
        settle(cursor, job, self.memory, now=now, broken=self._broken, unfinished=unfinished)
        if self.memory.ended:
            self._ports.beats.pop((cursor.account, cursor.job), None)
        if self._options.artifacts:
            is_due = artifacts_due(cursor, job, self.memory, now)
            self.memory.artifacts = "sent" if is_due else self.memory.artifacts
            self.wants_artifacts = is_due or (self._has_paused and cursor.rows > 0)
        self.memory.put_into(self.cursor)

    def outcome(self) -> JobOutcome:
        """Return what came of the settled pass."""
        if self.is_lost:
            # The other worker's outcome counts; ours would describe a state that is not stored.
            return JobOutcome(self.job.id, "overtaken")
        error = self.error or self._broken
        return JobOutcome(
            self.job.id,
            self.cursor.relay_state,
            values=self.sent_values,
            error=error.message if error else "",
            remedy=error.remedy if error else "",
            key_refused=self._key_refused
            or (self.key_missing and not isinstance(error, TemporaryError)),
            wants_artifacts=self.wants_artifacts,
            temporary=isinstance(error, TemporaryError),
            lag_s=self.cursor.lag_s if self.sent_values else None,
        )
