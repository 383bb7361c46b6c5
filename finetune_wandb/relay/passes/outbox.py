"""The outbox: the next request to W&B, made of what was read and saved before it is sent.

A value is claimed in the ledger when the request that holds it is made; cursor, ledger and request
are saved as one. After a crash the same bytes go to the same offsets again.
"""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from finetune_wandb.model.errors import TemporaryError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.published.rows import Event, Row, console_line, history_line
from finetune_wandb.relay.published.sources import Reading
from finetune_wandb.relay.run import wire
from finetune_wandb.relay.run.cost import Meter


@dataclass(slots=True)
class Taken:
    """What goes into one request."""

    rows: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    newest_at: float = 0.0
    """When Azure published the newest of the values (unix seconds), 0 when it did not say."""
    top_step: int | None = None


class Sources:
    """What one pass has read and not yet put into a request."""

    def __init__(
        self, job: Job, reading: Reading, rows: AsyncIterator[list[Row]], metric: str
    ) -> None:
        """`metric` is what the best checkpoint is chosen by; empty for the usual ones."""
        self._job = job
        self._metric = metric
        self._reading = reading
        self._rows: AsyncIterator[list[Row]] | None = rows
        self._waiting: list[Row] = []
        """Rows that were read and are not yet in a request."""
        self._events: list[Event] = list(reading.events.events)
        self._stamp = _Stamp(job, reading)

    @property
    def rows_done(self) -> bool:
        return self._rows is None

    @property
    def done(self) -> bool:
        return self._rows is None and not self._events

    async def take(self, memory: Memory, *, offset: int) -> Taken:
        """Claim and format what fits into one request; `offset` is the first row's position.

        Raises our errors when a source breaks; what was claimed by then must be forgotten.
        """
        taken = Taken()
        self._take_lines(memory, taken)
        await self._take_rows(memory, taken, offset)
        if self.rows_done and (checkpoints := self._reading.checkpoints):
            note = memory.summary.take_checkpoints(checkpoints, self._job, self._metric)
            self._reading.notes.extend(filter(None, (note,)))
        if self.done:
            # Not before: the next pass must read again what a dying one leaves.
            memory.hints = self._reading.events.hints
        return taken

    def _take_lines(self, memory: Memory, taken: Taken) -> None:
        size = 0
        count = 0
        for event in self._events:
            if size > wire.MAX_BODY // 4:
                break
            count += 1
            if event.metrics and not event.is_error:
                continue  # its values are in the charts
            if not event.message or not memory.claim_line(event):
                continue
            line = console_line(event, event.at or self._job.created_at or 0.0)
            taken.lines.append(line)
            size += len(line)
        memory.summary.take_events(self._events[:count])
        del self._events[:count]

    async def _take_rows(self, memory: Memory, taken: Taken, offset: int) -> None:
        fresh: list[Row] = []
        room = wire.MAX_BODY
        while self._rows is not None and room >= 0:
            if not self._waiting:
                batch = await anext(self._rows, None)
                if batch is None:
                    self._rows = None
                    read = dict.fromkeys((*memory.results_read, *self._reading.results_read))
                    memory.results_read = list(read)
                    memory.summary.not_finite |= self._reading.not_finite
                    break
                self._waiting = batch
            room = self._take_batch(memory, taken, fresh, offset, room)
        memory.summary.take_rows(fresh)
        memory.curve.take(fresh, memory.ledger.metrics)
        taken.top_step = max((row.step for row in fresh), default=None)

    def _take_batch(
        self, memory: Memory, taken: Taken, fresh: list[Row], offset: int, room: int
    ) -> int:
        """Take rows off the batch until it is empty or `room` is below zero; return what is left."""
        claim_new, stamp, lines = memory.ledger.claim_new, self._stamp.of, taken.rows
        start, newest = self._job.created_at, taken.newest_at
        count = 0
        for row in self._waiting:
            count += 1
            values = claim_new(row.step, row.values)
            if not values:
                continue
            at = stamp(row)
            if row.at is not None and row.at > newest:
                newest = row.at
            if values is not row.values:
                row = Row(row.step, values, row.at)
            since = at - start if start is not None and at > start else 0.0
            line = history_line(row, offset + len(fresh), at, since)
            fresh.append(row)
            lines.append(line)
            room -= len(line)
            if room < 0:
                break
        del self._waiting[:count]
        taken.newest_at = newest
        return room

    @property
    def unfinished(self) -> bool:
        """Whether there are events that this pass has not read."""
        return self._reading.events.unfinished

    @property
    def broken(self) -> TemporaryError | None:
        return self._reading.broken

    @property
    def notes(self) -> list[str]:
        return self._reading.notes


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
    cursor.status = job.status


def final_line(job: Job, memory: Memory) -> str | None:
    """Return the console line that says why a job failed, None when there is none to say."""
    reason = ": ".join(part for part in (job.error_code, job.error_message) if part)
    if not job.is_terminal or not reason:
        return None
    identity = (1 << 62) | zlib.crc32(f"{job.status} {reason}".encode())
    if not memory.claim_once(identity):
        return None
    text = " ".join(f"Job {job.status}: {reason}".split())
    event = Event("", None, None, {}, text, is_error=True)
    return console_line(event, job.finished_at or job.created_at or 0.0)


class _Stamp:
    """Times for rows: the source's own; between job start and end for rows without one."""

    def __init__(self, job: Job, reading: Reading) -> None:
        self._start = job.created_at or 0.0
        self._end = job.finished_at
        self._top = max((row.step for row in reading.rows.values()), default=0)
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
