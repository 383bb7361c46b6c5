"""Rows of a result file, read as a stream: plain or base64 CSV, columns as they come.

Nothing is trusted: columns vary, trailing columns are empty, text stands where numbers belong.
A file that is no CSV with a `step` column raises RejectedError.
"""

import base64
import binascii
import csv
import io
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from finetune_wandb.model.errors import RejectedError, TemporaryError
from finetune_wandb.relay.published.metrics import (
    NOT_METRICS,
    Number,
    add_metric,
    metric_name,
    number_in,
    step_of,
)
from finetune_wandb.relay.published.rows import Row

_BASE64 = re.compile(rb"^[A-Za-z0-9+/\s]+={0,2}\s*$")
_BOM = b"\xef\xbb\xbf"
_MAX_LINE = 4 * 1024 * 1024
_PIECE = 64 * 1024
Columns = list[tuple[int, str, str]]
"""Place, name and metric of the columns that may hold values."""
csv.field_size_limit(_MAX_LINE)  # a text column may hold a whole answer of the model


@dataclass(slots=True)
class ResultCount:
    """What a read of a result file met. All counts are lines."""

    rows: int = 0
    unusable: int = 0
    not_finite: bool = False
    """A value of the training was not finite. A column of validation may say so for "no value"."""


async def read_rows(
    chunks: AsyncIterator[bytes],
    count: ResultCount,
    known: Mapping[int, Row] = MappingProxyType({}),
) -> AsyncIterator[list[Row]]:
    """Yield the file's rows in its order, a list for each chunk that completes some.

    Values that a step has in `known` already are left out, unread. Raises RejectedError when the
    file is not CSV with a `step` column.
    """
    columns: Columns | None = None
    step_column = -1
    async for text in lines_of(decoded(chunks)):
        try:
            records = list(csv.reader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise RejectedError(f"the result file is not CSV ({error})", code="NotCsv") from None
        rows: list[Row] = []
        for record in records:
            if not record:
                continue
            if columns is None:
                step_column, columns = _header(record)
                continue
            row = _row(record, step_column, columns, known, count)
            if row is None:
                count.unusable += 1
            else:
                count.rows += 1
                rows.append(row)
        if rows:
            yield rows
    if columns is None:
        raise RejectedError("the result file is empty", code="NotCsv")


def _header(record: list[str]) -> tuple[int, Columns]:
    names = [name.strip().strip('"') for name in record]
    lowered = [name.lower() for name in names]
    if "step" not in lowered:
        raise RejectedError("the result file has no step column", code="NotCsv")
    step_column = lowered.index("step")
    # Renamed twins of one metric: the first column that has a value wins, see _row.
    return step_column, [
        (place, name, metric_name(name))
        for place, name in enumerate(names)
        if name and name.lower() not in NOT_METRICS
    ]


def _row(
    record: list[str],
    step_column: int,
    columns: Columns,
    known: Mapping[int, Row],
    count: ResultCount,
) -> Row | None:
    if step_column >= len(record):
        return None
    text = record[step_column].strip()
    # Nearly always a plain number; everything else a step may look like is read with more care.
    step = int(text) if len(text) < 16 and text.isascii() and text.isdigit() else step_of(text)
    if step is None:
        return None
    values: dict[str, Number] = {}
    width = len(record)
    there = known.get(step)
    taken = there.values if there is not None else values
    for place, name, metric in columns:
        if place >= width:
            break
        text = record[place]
        if not text or metric in taken:
            continue
        value = number_in(text)
        if value is None:
            continue  # a column of text or identifiers
        if value - value == 0.0 and value != -1.0:
            values.setdefault(metric, value)
        else:
            if value != -1.0 and "valid" not in metric:
                count.not_finite = True
            add_metric(values, name, value)
    return Row(step, values)


async def decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the file's own bytes, undoing base64 where the content is base64."""
    pending = b""
    started = False
    is_base64 = False
    async for chunk in chunks:
        if not started:
            pending += chunk
            if len(pending) < 64:
                continue
            started = True
            is_base64 = _looks_base64(pending[:4096])
            chunk, pending = pending, b""
        if not is_base64:
            yield chunk
            continue
        pending += b"".join(chunk.split())
        whole = len(pending) - len(pending) % 4
        yield _unbase64(pending[:whole])
        pending = pending[whole:]
    if not started:
        is_base64 = _looks_base64(pending)
        yield _unbase64(b"".join(pending.split())) if is_base64 else pending
    elif pending:
        yield _unbase64(pending)


def _looks_base64(head: bytes) -> bool:
    # A CSV header has commas; base64 text cannot.
    return bool(head.strip()) and b"," not in head and bool(_BASE64.match(head)) and len(head) > 8


def _unbase64(data: bytes) -> bytes:
    try:
        # Some writers leave out the padding at the end.
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        raise RejectedError("the result file is damaged base64", code="NotCsv") from None


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield complete lines, some at a time. A quoted field may hold line ends; it stays in one piece."""
    rest = b""
    first = True
    async for data in _gathered(chunks):
        if first:
            data, first = data.removeprefix(_BOM), False
        data = rest + data
        cut = _cut(data)
        if cut == 0 and len(data) > _MAX_LINE:
            # A quote that is never closed: text such as 12" was written without quoting it.
            cut = _last_end(data)
            if cut == 0:
                raise RejectedError("the result file has no line ends", code="NotCsv")
        if cut:
            yield data[:cut].decode("utf-8", "replace")
        rest = data[cut:]
    if rest.strip():
        yield rest.decode("utf-8", "replace")


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces worth parsing: a network gives them in crumbs."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= _PIECE:
                yield b"".join(pieces)
                pieces, size = [], 0
    except TemporaryError:
        # What came before the break is as good as ever; the caller learns of the break after it.
        if size:
            yield b"".join(pieces)
        raise
    if size:
        yield b"".join(pieces)


def _cut(data: bytes) -> int:
    """Return where the last line that is complete and outside quotes ends, 0 for nowhere."""
    end = len(data)
    segments = data.split(b'"')
    for place in range(len(segments) - 1, -1, -1):
        start = end - len(segments[place])
        # Between an even number of quotes: outside of them.
        if place % 2 == 0 and (found := _last_end(segments[place])):
            return start + found
        end = start - 1
    return 0


def _last_end(data: bytes) -> int:
    """Return the place after the last line end, 0 where there is none."""
    return max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
