"""Takes rows and console lines off a job's sources, up to one request's size.

Takes and claims together: what is claimed here is in the request that is made of it, and cursor
and request are saved as one.
"""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from model.job import Job
from relay import wire
from relay.events import Event, console_line
from relay.memory import Memory
from relay.rows import Row, history_line
from relay.sources import Reading


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

    def __init__(self, job: Job, reading: Reading, rows: AsyncIterator[Row]) -> None:
        self._job = job
        self._reading = reading
        self._rows: AsyncIterator[Row] | None = rows
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
        return taken

    def _take_lines(self, memory: Memory, taken: Taken) -> None:
        size = 0
        count = 0
        for event in self._events:
            if size > wire.MAX_BODY // 4:
                break
            count += 1
            if not event.message or not memory.claim_line(event):
                continue
            line = console_line(event, event.at or self._job.created_at or 0.0)
            taken.lines.append(line)
            size += len(line)
        memory.summary.take_events(self._events[:count])
        del self._events[:count]

    async def _take_rows(self, memory: Memory, taken: Taken, offset: int) -> None:
        if self._rows is None:
            return
        claim_new, start = memory.ledger.claim_new, self._job.created_at
        fresh: list[Row] = []
        size = 0
        async for row in self._rows:
            values = claim_new(row.step, row.values)
            if not values:
                continue
            at = self._stamp.of(row)
            if row.at is not None:
                taken.newest_at = max(taken.newest_at, row.at)
            kept = row if values is row.values else Row(row.step, values, row.at)
            since = max(at - start, 0.0) if start is not None else 0.0
            line = history_line(kept, offset + len(fresh), at, since)
            fresh.append(kept)
            taken.rows.append(line)
            size += len(line)
            if size > wire.MAX_BODY:
                break
        else:
            self._rows = None
            if self._reading.result_read:
                memory.result_read = self._reading.result_file
        memory.summary.take_rows(fresh)
        memory.curve.take(fresh)
        taken.top_step = max((row.step for row in fresh), default=None)

    @property
    def notes(self) -> list[str]:
        return self._reading.notes


def final_line(job: Job, memory: Memory) -> str | None:
    """Return the console line that says why a job failed, None when there is none to say."""
    reason = ": ".join(part for part in (job.error_code, job.error_message) if part)
    if not job.is_terminal or not reason:
        return None
    identity = (1 << 62) | zlib.crc32(f"{job.status} {reason}".encode())
    if not memory.claim_once(identity):
        return None
    text = " ".join(f"Job {job.status}: {reason}".split())
    event = Event(identity, None, None, {}, text, is_error=True)
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
