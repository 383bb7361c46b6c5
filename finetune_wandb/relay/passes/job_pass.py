"""One pass over one job: read what is new, put it into the outbox, send it, step by step.

The caller drives many passes at once and does the storage for all of them together:
`fill` → cursors saved → `send` → cursors saved, until nothing is left. Wherever the process
dies between the two, the next pass finds the outbox and sends the same bytes.
"""

from collections.abc import Callable
from typing import Final

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError, DeniedError, PermanentError, TemporaryError
from finetune_wandb.model.job import Job
from finetune_wandb.model.relay_ports import RunKey
from finetune_wandb.relay.notes import joined_notes
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.passes.claim import put_into_outbox
from finetune_wandb.relay.passes.looks import SLOWEST_S, is_whole_look, needs_closing
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.outbox import Sources, final_line
from finetune_wandb.relay.passes.settle import settle
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.published.sources import read_all, read_live, stream_rows
from finetune_wandb.relay.run import wire
from finetune_wandb.relay.run.alerts import Alarm
from finetune_wandb.relay.run.cost import Meter
from finetune_wandb.relay.run.place import RunPlace

HEARTBEAT_S: Final = 120.0
"""W&B calls a run crashed after about five minutes of silence."""
_PATIENT_PASSES: Final = 3
"""So many passes fail for a result file that breaks off before the run gets its end without it."""
STOP_NOTE: Final = "somebody pressed Stop on the run in W&B; the fine-tuning job goes on"
CANCEL_NOTE: Final = "cancelled, because somebody pressed Stop on the run in W&B"


class JobPass:
    """Mutable: holds the job, its cursor and what is still to be sent in this pass."""

    def __init__(
        self,
        job: Job,
        cursor: Cursor,
        account: RelayAccount,
        *,
        ports: RelayPorts,
        options: RelayOptions,
        key: RunKey,
        clock: Callable[[], float],
        full: bool = False,
    ) -> None:
        """`full` reads everything once more, also of a job that is long over."""
        self.job = job
        self.cursor = cursor
        self.memory = Memory(cursor.state, cursor.curve)
        self.error: AppError | None = None
        self.key_missing = False
        self.has_posted = False
        """Something was sent to the run, whether or not an answer came."""
        self.is_reverted = False
        """Storage did not take the cursor; the stored one has yet to be given the cause."""
        self.sent_values = 0
        self._full = full
        self._is_leftover = bool(cursor.outbox)
        self._quiet_before = self.memory.quiet_at
        self.wants_artifacts = False
        """The job has its end, and its artifacts are to be asked for now."""
        self._account = account
        self._ports = ports
        self._options = options
        self._key = key
        self._clock = clock
        self._sources: Sources | None = None
        self._alarm = Alarm(job, account, self.memory, ports=ports, options=options, key=key)
        self._previous_status = cursor.status
        self._place = RunPlace(job, account, self.memory, ports.sink, key)
        if self.memory.asked is None:
            self.memory.asked = dict(job.hyperparameters)
        self.memory.see_status(job, clock())

    @property
    def is_stale(self) -> bool:
        """Whether the job object is older than what was relayed: it cannot live after its end."""
        return self.memory.ended and not self.job.is_terminal

    @property
    def broken(self) -> TemporaryError | None:
        """Why a result file of the job could not be read to its end in this pass."""
        return self._sources.broken if self._sources else None

    @property
    def key_refused(self) -> bool:
        return isinstance(self.error, DeniedError) and self.error.code == "401"

    @property
    def _waits(self) -> bool:
        """Whether the job has not begun: its run is pending, and nothing is sent to it."""
        return self.job.is_waiting and not self.cursor.rows

    @property
    def probe_body(self) -> bytes:
        """What `probe` says: what the run knows already; empty for a run that W&B cannot have."""
        if self.cursor.run is None or self.memory.attributes is None or self._waits:
            return b""
        return self.memory.end.encode() if self.memory.ended else wire.HEARTBEAT

    async def probe(self) -> None:
        """Say to the run what it knows already. Raises when W&B has it no longer."""
        assert self.cursor.run is not None, "a run without a place has nothing to say"
        self.has_posted = True
        await self._ports.sink.post(self.cursor.run, self.probe_body, key=self._key)
        self._answered()

    async def read(self) -> None:
        """Read the job's new values. Nothing is claimed yet."""
        job, cursor, memory = self.job, self.cursor, self.memory
        if cursor.relay_state == "skipped":
            cursor.notes = ()  # they say why it was left alone
        if job.oddities:
            fields = ", ".join(job.oddities)
            cursor.notes = joined_notes(cursor.notes, (f"fields that could not be used: {fields}",))
        self._place.choose(cursor)
        if self._waits:
            return
        jobs, hints = self._ports.jobs, memory.hints
        await memory.summary.usage.measure_file(jobs, self._account, job, self._options.prices)
        whole = not memory.ended or self._full
        whole = whole or is_whole_look(job, cursor, memory, self._clock())
        if job.is_terminal and whole:
            reading = await read_all(jobs, self._account, job, hints)
        else:
            reading = await read_live(jobs, self._account, job, hints)
        if job.is_terminal:
            done = () if self._full else memory.results_read
            reading.result_files = tuple(file for file in job.result_files if file not in done)
        patient = not memory.ended and cursor.failures < _PATIENT_PASSES
        rows = stream_rows(jobs, self._account, reading, patient=patient)
        self._sources = Sources(job, reading, rows, self._options.best_checkpoint_metric)

    async def read_and_fill(self) -> bool:
        """Read, and put the first request into the outbox; say whether there is one."""
        await self.read()
        return await self.fill()

    async def fill(self) -> bool:
        """Put the next request into the outbox; say whether there is one.

        Claims what it puts there, so cursor and outbox must be saved together.
        """
        cursor, job, memory, sources = self.cursor, self.job, self.memory, self._sources
        if cursor.outbox or sources is None:
            return False
        taken = await sources.take(memory, offset=cursor.rows)
        cursor.notes = joined_notes(cursor.notes, sources.notes)
        ends = job.is_terminal and sources.done and not memory.ended
        now = self._clock()
        closes = sources.done and needs_closing(job, cursor, memory, now)
        if ends and (line := final_line(job, memory)):
            taken.lines.append(line)
        changed = memory.facts != (facts := memory.summary.facts_hash(job))
        if not (taken.rows or taken.lines or ends or closes or changed):
            return False
        memory.ended = memory.ended or ends
        memory.facts = facts
        if ends:
            memory.doubt_at = max(
                (at for at in (memory.doubt_at, memory.quiet_at) if now - at < SLOWEST_S),
                default=0.0,
            )
        if closes:
            memory.doubt_at = 0.0
        cursor.last_value_at = max(taken.newest_at, cursor.last_value_at or 0.0) or None
        values = cursor.values
        put_into_outbox(taken, cursor, job, memory, meter=self._meter(), now=now)
        self.sent_values += cursor.values - values
        return True

    def _meter(self) -> Meter:
        now = self._clock()
        return self.memory.summary.meter(
            self.job, self._options.prices, paused_s=self.memory.paused_for(now), now=now
        )

    @property
    def has_more(self) -> bool:
        return self.error is None and self._sources is not None and not self._sources.done

    async def send(self) -> None:
        """Bring the run's attributes up to date and send the outbox, or a heartbeat when due."""
        cursor = self.cursor
        self._place.choose(cursor)
        run = await self._place.ensure(cursor, pending=self._waits)
        self.has_posted = True
        if cursor.outbox:
            stopped = await self._ports.sink.post(run, cursor.outbox, key=self._key)
        elif self._heartbeat_due():
            stopped = await self._ports.sink.post(run, wire.HEARTBEAT, key=self._key)
        else:
            self._answered()
            return
        now = self._clock()
        self._answered()
        if self._is_leftover:
            self.memory.doubt_at, self._is_leftover = now, False
            cursor.state = {**cursor.state, "doubt_at": now}
        if cursor.outbox and cursor.last_value_at:
            cursor.lag_s = max(now - cursor.last_value_at, 0.0)
        cursor.outbox = b""
        cursor.posted_at = now
        if stopped and not self.memory.stop_seen:
            await self._stop()

    def announce(self) -> None:
        """Note in the cursor, to be saved before it, that a request without an outbox begins.

        Should this pass be overtaken or die, whoever ends the run knows that it may yet come.
        """
        self._quiet_before = self.memory.quiet_at
        self.memory.quiet_at = self._clock()
        self.cursor.state = {**self.cursor.state, "quiet_at": self.memory.quiet_at}

    def _answered(self) -> None:
        """Take back what was announced; what another pass announced may still be under way."""
        self.memory.quiet_at = self._quiet_before

    @property
    def needs_request(self) -> bool:
        """Whether `send` has anything to do without an outbox."""
        differs = self._place.differs(self.cursor, pending=self._waits)
        return differs or self._heartbeat_due()

    def _heartbeat_due(self) -> bool:
        return (
            not self.memory.ended
            and not self._waits
            and self._clock() - self.cursor.posted_at >= HEARTBEAT_S
        )

    async def _stop(self) -> None:
        """Answer a Stop that somebody pressed on the run in W&B."""
        note = STOP_NOTE
        may_cancel = self._options.cancel_on_stop and not self._account.observed
        if may_cancel and not self.job.is_terminal:
            try:
                await self._ports.jobs.cancel_job(self._account, self.job.id)
            except PermanentError as error:
                # Values must not wait for a right that is missing; the next request tries again.
                why = f"{STOP_NOTE}: it could not be cancelled: {error.message}"
                self.cursor.notes = joined_notes(self.cursor.notes, (why,))
                return
            note = CANCEL_NOTE
        self.cursor.notes = joined_notes(self.cursor.notes, (note,))
        self.memory.stop_seen = True
        self.cursor.state = self.memory.dump()

    def find_alerts(self) -> None:
        """Find the alerts that are due, for `alert` to raise."""
        if self._options.alerts and self.cursor.run is not None and not self._waits:
            self._alarm.find(
                self.cursor,
                now=self._clock(),
                previous_status=self._previous_status,
                cost=self._meter().cost,
            )

    @property
    def has_alerts(self) -> bool:
        return self._alarm.is_due and self.error is None

    async def alert(self) -> None:
        """Raise the alerts that are due, on the run and as notices; each once."""
        await self._alarm.raise_due(self.cursor, now=self._clock())

    def fail(self, error: AppError) -> None:
        """Record why this pass stops; what is in the outbox stays there."""
        self.error = error

    def revert(self, stored: Cursor, error: AppError) -> None:
        """Go back to the cursor that is stored, since this pass's own could not be."""
        self.sent_values -= self.cursor.values - stored.values
        self.cursor, self.error, self.is_reverted = stored, error, True

    def settle(self) -> None:
        """Set the state that the next pass starts from, once this one is through."""
        self.is_reverted = False
        self.wants_artifacts = settle(
            self.cursor,
            self.job,
            self.memory,
            now=self._clock(),
            error=self.error,
            keyless=self.key_refused or self.key_missing,
            with_artifacts=self._options.artifacts,
            broken=self.broken,
        )
