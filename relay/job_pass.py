"""One pass over one job: read what is new, put it into the outbox, send it, step by step.

The caller drives many passes at once and does the storage for all of them together:
`fill` → cursors saved → `send` → cursors saved, until nothing is left. Wherever the process
dies between the two, the next pass finds the outbox and sends the same bytes.
"""

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson

from model.account import RelayAccount
from model.cursor import Cursor
from model.errors import AppError, DeniedError, MissingError, RejectedError
from model.job import Job
from model.relay_ports import JobsPort, RunKey, SinkPort
from relay import wire
from relay.attributes import project_problem, run_attributes, run_path
from relay.events import Event, Hints, console_line, line_mark
from relay.ledger import Ledger
from relay.rows import Row, history_line
from relay.sources import Reading, read_all, read_live, stream_rows, total_steps
from relay.summary import Summary

HEARTBEAT_S: Final = 120.0
"""W&B calls a run crashed after about five minutes of silence."""
STOP_NOTE: Final = "somebody pressed Stop on the run in W&B; the fine-tuning job goes on"
_RECENT_S: Final = 3600.0
_LATE_LOOKS_S: Final = (5.0, 15.0, 45.0, 135.0, 300.0)
"""When a job that ended lately is looked at again: Azure still adds events and the result file
for some time after the status says that the job is over (36 s in the published tutorial)."""
_OLD_LOOKS_S: Final = (15.0,)
_PARK_S: Final = (60.0, 3600.0)


class JobPass:
    """Mutable: holds the job, its cursor and what is still to be sent in this pass."""

    def __init__(
        self,
        job: Job,
        cursor: Cursor,
        account: RelayAccount,
        *,
        jobs: JobsPort,
        sink: SinkPort,
        key: RunKey,
        clock: Callable[[], float],
    ) -> None:
        self.job = job
        self.cursor = cursor
        self.error: AppError | None = None
        self.key_refused = False
        self.sent_values = 0
        self.stopped = False
        """Somebody pressed Stop on the run in W&B."""
        self._account = account
        self._jobs = jobs
        self._sink = sink
        self._key = key
        self._clock = clock
        self._reading: Reading | None = None
        self._rows: AsyncIterator[Row] | None = None
        self._held: Row | None = None
        self._events: list[Event] = []
        self._finished_source = False
        self._beat = False
        self._load()

    def _load(self) -> None:
        state = self.cursor.state
        self._ledger = Ledger.load(state.get("ledger"))
        self._lines = Ledger.load(state.get("lines"))
        self._seen: set[int] = set(state.get("seen", ()))
        self._hints = Hints(*state.get("hints", ()))
        self._summary = Summary(state.get("summary"))
        self._attributes_hash: int | None = state.get("attributes")
        self._generation: int = state.get("generation", 1)
        self._ended: bool = state.get("ended", False)
        self._looks: int = state.get("looks", 0)
        self._result_read: str = state.get("result_read", "")

    def _store(self) -> None:
        self.cursor.state = {
            "ledger": self._ledger.dump(),
            "lines": self._lines.dump(),
            "seen": sorted(self._seen),
            "hints": [self._hints.order, self._hints.head, self._hints.tail],
            "summary": self._summary.state(),
            "attributes": self._attributes_hash,
            "generation": self._generation,
            "ended": self._ended,
            "looks": self._looks,
            "result_read": self._result_read,
        }

    @property
    def is_stale(self) -> bool:
        """Whether the job object is older than what was relayed: it cannot live after its end."""
        return self._ended and not self.job.is_terminal

    async def read(self) -> None:
        """Read the job's new values. Nothing is claimed yet."""
        job, cursor = self.job, self.cursor
        if cursor.run is None:
            cursor.run = run_path(
                job,
                self._account,
                key_entity=self._key.entity,
                suffix="" if self._generation == 1 else f"-{self._generation}",
            )
        if problem := project_problem(cursor.run.project):
            raise RejectedError(problem, subject=job.id, code="project")
        if job.is_waiting and not cursor.rows:
            return
        if job.is_terminal and not self._ended:
            self._reading = await read_all(self._jobs, self._account, job, self._hints)
        else:
            self._reading = await read_live(self._jobs, self._account, job, self._hints)
            new_file = job.result_files[0] if job.result_files else ""
            if self._ended and new_file != self._result_read:
                self._reading.result_file = new_file
        self._events = self._reading.events.events
        self._rows = stream_rows(self._jobs, self._account, job, self._reading)

    async def fill(self) -> bool:
        """Put the next request into the outbox; say whether there is one.

        Claims what it puts there, so cursor and outbox must be saved together.
        """
        if self.error is not None or self.cursor.outbox:
            return False
        lines = self._take_lines()
        rows, newest = await self._take_rows()
        if self.error is not None:
            return False
        cursor, job = self.cursor, self.job
        source_done = self._finished_source or self._rows is None
        ends = job.is_terminal and source_done and not self._ended
        changed = cursor.status != job.status and not job.is_waiting
        if not rows and not lines and not ends and not changed:
            return False
        if ends:
            self._ended = True
        cursor.last_value_at = max(newest, cursor.last_value_at or 0.0) or None
        cursor.outbox = wire.body(
            rows=rows,
            row_offset=cursor.rows,
            lines=lines,
            line_offset=cursor.lines,
            summary=self._summary.render(
                job, rows=cursor.rows + len(rows), last_at=cursor.last_value_at
            ),
            exitcode=wire.exit_code(job.status) if self._ended else None,
        )
        cursor.rows += len(rows)
        cursor.lines += len(lines)
        self.sent_values += self._ledger.count - cursor.values
        cursor.values = self._ledger.count
        cursor.status = job.status
        self._store()
        return True

    def _take_lines(self) -> list[str]:
        lines: list[str] = []
        size = 0
        taken = 0
        for event in self._events:
            if size > wire.MAX_BODY // 4:
                break
            taken += 1
            if not event.message or not self._claim_line(event):
                continue
            line = console_line(event, event.at or self.job.created_at or 0.0)
            lines.append(line)
            size += len(line)
        self._summary.take_events(self._events[:taken])
        del self._events[:taken]
        return lines

    def _claim_line(self, event: Event) -> bool:
        mark = line_mark(event)
        if mark is not None and event.step is not None:
            return self._lines.claim(event.step, mark)
        if event.identity in self._seen:
            return False
        self._seen.add(event.identity)
        return True

    async def _take_rows(self) -> tuple[list[str], float]:
        """Claim and format rows up to one request's size. Returns them and the newest's time."""
        formatted: list[str] = []
        taken: list[Row] = []
        newest, size = 0.0, 0
        if self._rows is None:
            return formatted, newest
        cursor, claim = self.cursor, self._ledger.claim
        start = self.job.created_at
        stamp = _Stamp(self.job, self._reading)
        offset = cursor.rows
        try:
            async for row in self._rows:
                step = row.step
                values = {name: value for name, value in row.values.items() if claim(step, name)}
                if not values:
                    continue
                at = stamp.of(row)
                if row.at is not None:
                    newest = max(newest, row.at)
                fresh = Row(step, values, row.at)
                base = start if start is not None else at
                line = history_line(fresh, offset + len(formatted), at, max(at - base, 0.0))
                formatted.append(line)
                taken.append(fresh)
                size += len(line)
                if size > wire.MAX_BODY:
                    break
            else:
                self._finished_source = True
        except AppError as error:
            # What was claimed is not in any outbox: forget it, the next pass reads it again.
            self.fail(error)
            return [], 0.0
        if taken:
            self._summary.take_rows(taken)
            top = max(row.step for row in taken)
            cursor.last_step = max(top, cursor.last_step or 0)
        if self._finished_source and self._reading is not None:
            if self._reading.result_read:
                self._result_read = self._reading.result_file
            cursor.notes = tuple(dict.fromkeys((*cursor.notes, *self._reading.notes)))[:20]
            self._rows = None
        return formatted, newest

    @property
    def has_more(self) -> bool:
        return self.error is None and (self._rows is not None or bool(self._events))

    async def send(self) -> None:
        """Bring the run's attributes up to date and send the outbox, or a heartbeat when due."""
        cursor = self.cursor
        try:
            await self._ensure_run()
            assert cursor.run is not None
            if cursor.outbox:
                stopped = await self._sink.post(cursor.run, cursor.outbox, key=self._key)
            elif self._heartbeat_due():
                stopped = await self._sink.post(cursor.run, wire.HEARTBEAT, key=self._key)
                self._beat = True
            else:
                return
        except AppError as error:
            self.fail(error)
            return
        now = self._clock()
        if cursor.outbox and cursor.last_value_at:
            cursor.lag_s = max(now - cursor.last_value_at, 0.0)
        cursor.outbox = b""
        cursor.posted_at = now
        self.stopped = self.stopped or stopped

    def _heartbeat_due(self) -> bool:
        return (
            not self._ended
            and not (self.job.is_waiting and not self.cursor.rows)
            and self._clock() - self.cursor.posted_at >= HEARTBEAT_S
        )

    @property
    def needs_request(self) -> bool:
        """Whether `send` has anything to do without an outbox."""
        return self._attributes_changed() or self._heartbeat_due()

    def _attributes_changed(self) -> bool:
        return self._attributes_hash != self._hash_attributes()

    def _hash_attributes(self) -> int:
        waiting = self.job.is_waiting and not self.cursor.rows
        attributes = run_attributes(self.job, self._account)
        return zlib.crc32(
            orjson.dumps([attributes, waiting, str(self.cursor.run)], option=orjson.OPT_SORT_KEYS)
        )

    async def _ensure_run(self) -> None:
        wanted = self._hash_attributes()
        if wanted == self._attributes_hash:
            return
        assert self.cursor.run is not None
        self.cursor.run = await self._sink.ensure_run(
            self.cursor.run,
            run_attributes(self.job, self._account),
            pending=self.job.is_waiting and not self.cursor.rows,
            key=self._key,
        )
        # The server may have answered another spelling; the hash is of what stands now.
        self._attributes_hash = self._hash_attributes()
        self.cursor.state = {**self.cursor.state, "attributes": self._attributes_hash}

    def fail(self, error: AppError) -> None:
        """Record why this pass stops; what is in the outbox stays there."""
        self.error = error
        if isinstance(error, DeniedError) and error.code == "401":
            self.key_refused = True

    def settle(self) -> None:
        """Set the state that the next pass starts from, once this one is through."""
        cursor, job, now = self.cursor, self.job, self._clock()
        cursor.model, cursor.created_at, cursor.finished_at = (
            job.model,
            job.created_at,
            job.finished_at,
        )
        if self.error is not None:
            self._settle_failure(self.error, now)
            return
        cursor.failures, cursor.error, cursor.remedy, cursor.retry_at = 0, "", "", 0.0
        if self.stopped:
            cursor.notes = tuple(dict.fromkeys((*cursor.notes, STOP_NOTE)))
        cursor.status = job.status
        if not self._ended:
            cursor.relay_state = "live"
            self._store()
            return
        if cursor.ending_since is None:
            cursor.ending_since = now
        recent = job.finished_at is None or now - job.finished_at < _RECENT_S
        looks = _LATE_LOOKS_S if recent else _OLD_LOOKS_S
        if self._looks >= len(looks):
            cursor.relay_state = "complete"
        else:
            cursor.relay_state = "ending"
            cursor.retry_at = cursor.ending_since + looks[self._looks]
            self._looks += 1
        self._store()

    def _settle_failure(self, error: AppError, now: float) -> None:
        cursor = self.cursor
        cursor.failures += 1
        cursor.error, cursor.remedy = error.message, error.remedy
        if isinstance(error, RejectedError) and error.code == "deleted":
            self._start_over()
            return
        if isinstance(error, MissingError) and error.code == "run":
            # The run is gone but its id is not refused: ask for it again, from the first row.
            self._start_over(same_id=True)
            return
        if self.key_refused:
            # Everything resumes with the next pass once a good key is in use.
            cursor.relay_state, cursor.retry_at = "parked", 0.0
        elif isinstance(error, (DeniedError, RejectedError, MissingError)):
            first, longest = _PARK_S
            cursor.relay_state = "parked"
            cursor.retry_at = now + min(first * 2 ** min(cursor.failures - 1, 8), longest)

    def _start_over(self, *, same_id: bool = False) -> None:
        """Forget what the lost run held: the next pass writes all of it into a new run."""
        cursor = self.cursor
        if not same_id:
            self._generation += 1
        cursor.state = {"generation": self._generation}
        cursor.run = None
        cursor.rows = cursor.lines = cursor.values = 0
        cursor.last_step = cursor.last_value_at = cursor.ending_since = None
        cursor.outbox = b""
        cursor.status = ""
        cursor.relay_state = "new"
        cursor.retry_at = 0.0


class _Stamp:
    """Times for rows: the source's own; between job start and end for rows without one."""

    def __init__(self, job: Job, reading: Reading | None) -> None:
        self._start = job.created_at or 0.0
        self._end = job.finished_at
        self._top = total_steps(reading.rows.values()) if reading else 0
        self._last = self._start

    def of(self, row: Row) -> float:
        if row.at is not None:
            self._last = row.at
            return row.at
        if self._end is not None and self._end > self._start:
            share = min(row.step / max(self._top, row.step, 1), 1.0)
            guess = self._start + (self._end - self._start) * share
            return max(guess, self._last) if self._last <= self._end else guess
        return self._last
