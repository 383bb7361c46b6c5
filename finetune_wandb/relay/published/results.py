"""Rows of a result file, read as a stream: plain or base64 CSV, columns as they come.

Nothing is trusted: columns vary, trailing columns are empty, text stands where numbers belong.
A file that is no CSV with a `step` column raises RejectedError.
"""

import base64
import binascii
import codecs
import csv
import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from finetune_wandb.model.errors import RejectedError, TemporaryError
from finetune_wandb.relay.published.rows import (
    Conflicts,
    Number,
    Row,
    add_metric,
    cannot_be_negative,
    metric_name,
    step_of,
)

_BASE64: Final = re.compile(rb"^(?=\s*\S)[A-Za-z0-9+/\s]+={0,2}\s*$")
"""A CSV header has commas; base64 text cannot."""
_MAX_LINE = 4 * 1024 * 1024
_PIECE = 64 * 1024
_END: Final = "\0"
"""A line that is put after the last one, to see whether an open quote swallows it."""
_MOST_OPEN: Final = 100
"""Lines with a quote that is never closed, in one piece: each costs another read of the rest."""
csv.field_size_limit(2 * _MAX_LINE)  # a text column may hold a whole answer of the model


@dataclass(slots=True)
class ResultCount:
    """What a read of a result file met."""

    unusable: int = 0
    """Lines without a step."""
    open_quotes: int = 0
    """Lines with a quote that is never closed; they were read as if it were a letter."""
    conflicts: Conflicts = field(default_factory=Conflicts)
    texts: set[str] = field(default_factory=set)
    """Names of the columns with something that is not a number."""
    not_finite: bool = False
    """A value of the training was not finite. A column of validation may say so for "no value"."""

    def notes(self, file: str) -> Iterator[str]:
        """Yield what could not be used of the file, in plain words."""
        if self.unusable:
            yield f"{self.unusable} lines of result file {file} had no step"
        if self.open_quotes:
            yield f"{self.open_quotes} lines of result file {file} had a quote that is not closed"
        yield from self.conflicts.notes(f"result file {file}")
        if self.texts:
            names = ", ".join(sorted(self.texts)[:10])
            yield f"columns of result file {file} with text that is not a metric: {names}"


async def read_rows(
    chunks: AsyncIterator[bytes], count: ResultCount, known: Mapping[int, Row]
) -> AsyncIterator[list[Row]]:
    """Yield the file's rows in its order, a list for each piece that completes some.

    Values that a step has in `known` already are left out. Raises RejectedError when the file is
    not CSV with a `step` column.
    """
    table: _Table | None = None
    async for _, records in read_records(chunks, count):
        lines = filter(None, records)
        if table is None and (header := next(lines, None)):
            table = _Table(header, known, count)
        if table is not None and (rows := list(filter(None, map(table.row, lines)))):
            yield rows
    if table is None:
        raise RejectedError("the result file is empty", code="NotCsv")
    if held := table.held_values():
        yield held


async def read_records(
    chunks: AsyncIterator[bytes], count: ResultCount
) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """Yield the file's text piece by piece, decoded, with the records that end in each piece.

    A quoted field may hold line ends; a quote that is never closed is read as a letter. Where the
    chunks break off, what came before is yielded first. Raises RejectedError for what is not CSV.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    lines: list[str] = []
    """Complete lines of a record whose quote is still open."""
    rest = ""
    try:
        async for data in _decoded(_gathered(chunks)):
            text = rest + decode(data)
            cut = max(text.rfind("\n"), text.rfind("\r")) + 1
            if not cut and len(text) > _MAX_LINE:
                raise RejectedError("the result file has no line ends", code="NotCsv")
            text, rest = text[:cut], text[cut:]
            is_open = bool(lines)
            lines += io.StringIO(text, newline="")
            records: list[list[str]] = []
            if not is_open or '"' in text or sum(map(len, lines)) > _MAX_LINE:
                records, lines = _records(lines, count)
            yield text, records
        rest += decode(b"", final=True)
        yield rest, _records([*lines, *io.StringIO(rest, newline="")], count, is_all=True)[0]
    except csv.Error as error:
        raise RejectedError(f"the result file is not CSV ({error})", code="NotCsv") from None


def _records(
    lines: list[str], count: ResultCount, *, is_all: bool = False
) -> tuple[list[list[str]], list[str]]:
    """Return the records that end within the lines, and the lines after the last of them."""
    found: list[list[str]] = []
    for _ in range(_MOST_OPEN):
        reader = csv.reader([*lines, _END])
        read = 0
        for record in reader:
            if reader.line_num > len(lines):
                break  # the line after the last one, alone or swallowed
            read = reader.line_num
            found.append(record)
        lines = lines[read:]
        if not lines or not (is_all or sum(map(len, lines)) > _MAX_LINE):
            return found, lines
        count.open_quotes += 1
        found += csv.reader(lines[:1], quoting=csv.QUOTE_NONE)
        lines = lines[1:]
    raise csv.Error("too many quotes that are not closed")


class _Table:
    """The columns of a result file, and what its rows have shown of them so far."""

    def __init__(self, header: list[str], known: Mapping[int, Row], count: ResultCount) -> None:
        names = [name.strip().strip('"') for name in header]
        lowered = [name.lower() for name in names]
        if "step" not in lowered:
            raise RejectedError("the result file has no step column", code="NotCsv")
        self._step = lowered.index("step")
        # Renamed twins of one metric: the first column that has a value wins.
        self._columns = [
            (place, name, metric)
            for place, name in enumerate(names)
            if name and metric_name(name.lower()) and (metric := metric_name(name))
        ]
        self._known = known
        self._count = count
        self._placeholders: set[str] = set()
        """Metrics whose -1 stands for "no value", though they can be negative."""
        self._held: list[tuple[int, str]] = []
        """(step, metric) of each -1 that may be a value or not."""

    def row(self, record: list[str]) -> Row | None:
        """Return what a record adds to the known rows, None where it has no step."""
        text = record[self._step].strip() if self._step < len(record) else ""
        # Nearly always a plain number; everything else is read with more care.
        step = int(text) if len(text) < 16 and text.isascii() and text.isdigit() else step_of(text)
        if step is None:
            self._count.unusable += 1
            return None
        values: dict[str, Number] = {}
        width = len(record)
        known = there.values if (there := self._known.get(step)) else values
        for place, name, metric in self._columns:
            if place >= width:
                break
            text = record[place]
            if not text:
                continue
            try:
                value = float(text)
            except ValueError:
                if text.strip():
                    self._count.texts.add(name)
                continue
            if metric in known:
                if value != known[metric]:
                    self._count.conflicts.compare(step, metric, value, known[metric])
            elif "_" in text:
                self._count.texts.add(name)  # Python reads 1_000; here it is an identifier
            elif value - value == 0.0 and value != -1.0:
                values.setdefault(metric, value)
            elif value != -1.0 or not self._may_be_gap(step, metric, name):
                self._count.not_finite |= value != -1.0 and "valid" not in metric
                add_metric(values, name, value)
        return Row(step, values)

    def _may_be_gap(self, step: int, metric: str, name: str) -> bool:
        """Say whether a -1 is, or may turn out to be, the file's word for "no value"."""
        if cannot_be_negative(name):
            return False  # add_metric knows
        if metric in self._placeholders:
            return True
        is_validation = "valid" in metric
        if not is_validation and metric not in self._published:
            return False
        there = self._known.get(step)
        if there is None:
            self._held.append((step, metric))
        elif is_validation and any("valid" in one for one in there.values):
            return False
        else:
            self._placeholders.add(metric)
        return True

    @cached_property
    def _published(self) -> set[str]:
        """Metrics that other sources have values of."""
        return {metric for row in self._known.values() for metric in row.values}

    def held_values(self) -> list[Row]:
        """Return every -1 that the file has not shown to be a placeholder, at its end."""
        return [
            Row(step, {metric: -1.0})
            for step, metric in self._held
            if metric not in self._placeholders
        ]


async def _decoded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the file's own bytes, undoing base64 where the content is base64."""
    is_base64: bool | None = None
    rest = b""
    async for piece in pieces:
        if is_base64 is None:
            head = piece[:4096]
            is_base64 = len(head) > 8 and _BASE64.match(head) is not None
        if not is_base64:
            yield piece
            continue
        text = rest + b"".join(piece.split())
        whole = len(text) - len(text) % 4
        yield _unbase64(text[:whole])
        rest = text[whole:]
    if rest:
        yield _unbase64(rest)


def _unbase64(data: bytes) -> bytes:
    try:
        # Some writers leave out the padding at the end.
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        raise RejectedError("the result file is damaged base64", code="NotCsv") from None


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces worth parsing: a network gives them in crumbs."""
    piece = bytearray()
    try:
        async for chunk in chunks:
            piece += chunk
            if len(piece) >= _PIECE:
                yield bytes(piece)
                piece.clear()
    except TemporaryError:
        yield bytes(piece)
        raise
    yield bytes(piece)
