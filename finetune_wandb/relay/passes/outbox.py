"""The outbox: the next request to W&B, made of what was read and saved before it is sent.

A value is claimed in the ledger when the request that holds it is made; cursor, ledger and request
are saved as one. After a crash the same bytes go to the same offsets again.
"""

import json
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.published.rows import (
    Event,
    Row,
    console_line,
    history_line,
    json_text,
)
from finetune_wandb.relay.published.sources import Reading
from finetune_wandb.relay.run.cost import Meter
from finetune_wandb.relay.run.summary import extend_curve

HEARTBEAT: Final = b"{}"
"""Tells W&B that the run is alive, and changes nothing."""
_MAX_BODY: Final = 1_000_000
"""Bytes of lines in one request. W&B takes 10 MiB; the outbox's table row takes 1 MiB compressed."""

_HISTORY: Final = "wandb-history.jsonl"
_OUTPUT: Final = "output.log"
_SUMMARY: Final = "wandb-summary.json"
_TIME_CHARS: Final = 26
"""Length of the time with which a console line begins."""


def body(
    *,
    rows: Sequence[str] = (),
    row_offset: int = 0,
    lines: Sequence[str] = (),
    line_offset: int = 0,
    summary: dict[str, Any] | None = None,
    exitcode: int | None = None,
) -> bytes:
    """Return the body of one file_stream request.

    Offsets count lines already in the file; `exitcode` ends the run: 0 shows as Finished, 1 as
    Failed. Source: facts/wandb.md 2.1, recorded from wandb 0.31.0 and held by tests/parity.
    """
    files: dict[str, Any] = {}
    if summary is not None:
        files[_SUMMARY] = {"offset": 0, "content": [json_text(summary)]}
    if rows:
        files[_HISTORY] = {"offset": row_offset, "content": rows}
    if lines:
        files[_OUTPUT] = {"offset": line_offset, "content": lines}
    request: dict[str, Any] = {"files": files} if files else {}
    if exitcode is not None:
        request |= {"complete": True, "exitcode": exitcode}
    return orjson.dumps(request)


def count_items(request: bytes) -> int:
    """Return how many rows, console lines, summaries and ends a request holds together."""
    asked = orjson.loads(request)
    chunks = asked.get("files", {}).values()
    return sum(len(chunk["content"]) for chunk in chunks) + ("complete" in asked)


def cut(request: bytes, most: int) -> tuple[bytes, bytes]:
    """Return a request of the first items of this one, and one of the others, empty for none.

    The order is that in which W&B may take them one by one: rows, lines, summary, end.
    """
    end = orjson.loads(request)
    files = end.pop("files", {})
    first: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name in (_HISTORY, _OUTPUT, _SUMMARY):
        chunk = files.get(name, {"offset": 0, "content": []})
        offset, content = chunk["offset"], chunk["content"]
        taken, left = content[:most], content[most:]
        most -= len(taken)
        if taken:
            first[name] = {"offset": offset, "content": taken}
        if left:
            rest[name] = {"offset": offset + len(taken), "content": left}
    if rest or (end and not most):
        others = {"files": rest, **end} if rest else end
        return orjson.dumps({"files": first}), orjson.dumps(others)
    return orjson.dumps({"files": first, **end} if first else end), b""


def stand_in(request: bytes) -> tuple[bytes, str]:
    """Return what keeps the place of a request's only item in the run, and what that leaves out.

    Empty for a run's end, which has nothing that could be left out.
    """
    asked = orjson.loads(request)
    for name, chunk in asked.get("files", {}).items():
        (item,) = chunk["content"]
        if name == _HISTORY:
            row = json.loads(item)  # it may hold a bare infinity
            place = {key: row[key] for key in ("step", "_step", "_timestamp", "_runtime")}
            kept = body(rows=[json_text(place)], row_offset=chunk["offset"])
            return kept, f"the values of step {row['step']}"
        if name == _OUTPUT:
            kept = body(lines=[item[:_TIME_CHARS]], line_offset=chunk["offset"])
            return kept, f"console line {chunk['offset'] + 1}"
        return HEARTBEAT, "the summary"
    return b"", ""


@dataclass(slots=True)
class Taken:
    """What goes into one request."""

    fresh: list[Row] = field(default_factory=list)
    """Rows of values that were claimed for it."""
    rows: list[str] = field(default_factory=list)
    """The same as lines of the history."""
    lines: list[str] = field(default_factory=list)
    """Console output."""
    newest_at: float = 0.0
    """When Azure published the newest of the values (unix seconds), 0 when it did not say."""


class Sources:
    """What one pass has read and not yet put into a request."""

    def __init__(
        self, job: Job, reading: Reading, rows: AsyncIterator[list[Row]], metric: str
    ) -> None:
        """`metric` is what the best checkpoint is chosen by; empty for the usual ones."""
        self.reading = reading
        self._job, self._metric = job, metric
        self._rows: AsyncIterator[list[Row]] | None = rows
        self._waiting: list[Row] = []
        """Rows that were read and are not yet in a request."""
        self._events: list[Event] = list(reading.events.events)
        self._stamp = _Stamp(job, reading)

    @property
    def done(self) -> bool:
        return self._rows is None and not self._events

    async def take(self, memory: Memory, *, offset: int) -> Taken:
        """Claim and format what fits into one request; `offset` is the first row's position.

        Raises our errors when a source breaks; what was claimed by then must be forgotten.
        """
        taken, reading = Taken(), self.reading
        self._take_lines(memory, taken)
        await self._take_rows(memory, taken, offset)
        if self._rows is None and reading.checkpoints:
            note = memory.summary.take_checkpoints(reading.checkpoints, self._job, self._metric)
            reading.notes.extend(filter(None, (note,)))
        if self.done:
            # Not before: the next pass must read again what a dying one leaves.
            memory.hints = reading.events.hints
        return taken

    def _take_lines(self, memory: Memory, taken: Taken) -> None:
        size = 0
        count = 0
        for event in self._events:
            if size > _MAX_BODY // 4:
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
        room = _MAX_BODY
        while self._rows is not None and room >= 0:
            if not self._waiting:
                batch = await anext(self._rows, None)
                if batch is None:
                    self._rows = None
                    read = dict.fromkeys((*memory.results_read, *self.reading.results_read))
                    memory.results_read = list(read)
                    memory.summary.not_finite |= self.reading.not_finite
                    break
                self._waiting = batch
            room = self._take_batch(memory, taken, offset, room)
        memory.summary.take_rows(taken.fresh)
        extend_curve(memory.curve, taken.fresh, memory.ledger.metrics)

    def _take_batch(self, memory: Memory, taken: Taken, offset: int, room: int) -> int:
        """Take rows off the batch until it is empty or `room` is below zero; return what is left."""
        claim_new, stamp = memory.ledger.claim_new, self._stamp.of
        fresh, lines, newest = taken.fresh, taken.rows, taken.newest_at
        start = self._job.created_at
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


def put_into_outbox(
    taken: Taken, cursor: Cursor, job: Job, memory: Memory, *, meter: Meter, now: float
) -> None:
    """Put one request into the cursor's outbox. `now` is unix seconds.

    `memory.ended` says whether the request ends the run.
    """
    cursor.last_value_at = max(taken.newest_at, cursor.last_value_at or 0.0) or None
    exitcode = int(job.status != "succeeded") if memory.ended else None
    shown = memory.summary.render(
        job, rows=cursor.rows + len(taken.rows), last_at=cursor.last_value_at, meter=meter
    )
    cursor.outbox = body(
        rows=taken.rows,
        row_offset=cursor.rows,
        lines=taken.lines,
        line_offset=cursor.lines,
        summary=shown,
        exitcode=exitcode,
    )
    if memory.ended:
        memory.end = body(summary=shown, exitcode=exitcode).decode()
    if taken.fresh:
        cursor.last_step = max(cursor.last_step or 0, *(row.step for row in taken.fresh))
    cursor.rows += len(taken.rows)
    cursor.lines += len(taken.lines)
    cursor.values = memory.ledger.count


def final_line(job: Job, memory: Memory) -> str | None:
    """Return the console line that says why a job ended, None when there is none to say."""
    identity = (1 << 62) | zlib.crc32(f"{job.status} {job.reason}".encode())
    if not job.reason or not memory.claim_once(identity):
        return None
    text = " ".join(f"Job {job.status}: {job.reason}".split())
    return error_line(text, job.finished_at or job.created_at or 0.0)


def error_line(text: str, at: float) -> str:
    """Return a console line of the app itself. `at` is unix seconds."""
    return console_line(Event("", None, None, {}, text, is_error=True), at)


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
