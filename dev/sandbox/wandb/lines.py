"""Line-numbered streams of a run: what lands at which offset, and what can be read of it.

A write puts its lines at their offset, over what was there. Where gaps are kept, a write beyond
the end leaves slots that hold nothing, that readers do not see, and that later writes can fill.
Lines stay raw text until they are read, so that a million rows cost no more than their bytes.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from dev.sandbox.wandb.keys import Refusal

Row = dict[str, Any]

_NUMBERS = frozenset((int, float))


def finite(value: Any) -> Any:
    """Replace what strict JSON cannot hold: NaN and the infinities by their names, as W&B does
    when it answers, integers beyond 64 bits by floats."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return value


def loads(text: str | bytes) -> Any:
    """Parse JSON that may hold bare NaN and Infinity. Raises ValueError when it is not JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return finite(json.loads(text))


def json_or_refuse(text: str, what: str) -> str:
    """Return JSON text as it is. Raises a 400 refusal when it is not JSON."""
    try:
        loads(text)
    except (TypeError, ValueError):
        raise Refusal(400, f"{what} is not valid JSON") from None
    return text


def merged(before: str, after: str) -> str:
    """Return one JSON object merged into another, both as text, at every depth."""
    return json.dumps(_merged(loads(before), loads(after)))


def _merged(before: Any, after: Any) -> Any:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    return before | {name: _merged(before.get(name), value) for name, value in after.items()}


def parse_row(line: str) -> Row:
    """Return a history row. A line that is not a JSON object is shown as what it is."""
    try:
        row = loads(line)
    except ValueError:
        return {"_unparsable": line}
    return row if isinstance(row, dict) else {"_unparsable": line}


def _leaves(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        # A dict with `_type` is one value: a table, an image, a histogram.
        if isinstance(value, dict) and "_type" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["_type"])
    if value in ("NaN", "Infinity", "-Infinity") or isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "nil" if value is None else "list"


class Lines:
    """One stream."""

    def __init__(self) -> None:
        self.slots: list[str | None] = []

    def __len__(self) -> int:
        """The offset after the last line, which is where the next one belongs."""
        return len(self.slots)

    def write(self, offset: int, lines: list[str]) -> None:
        """Put lines at their offset; what lies between the end and a later offset stays empty."""
        self.slots.extend([None] * (offset - len(self.slots)))
        self.slots[offset : offset + len(lines)] = lines

    def present(self) -> Iterator[str]:
        """Yield the lines that are there, in order."""
        return (line for line in self.slots if line is not None)

    def tail(self, count: int, end: int) -> list[str]:
        """Return the last lines that are there before line `end`, oldest first."""
        return [line for line in self.slots[max(end - count, 0) : end] if line is not None]


class History(Lines):
    """The metric rows of a run, with an index that is brought up to date when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        self._indexed = 0
        self._rows: list[int] = []
        self._steps: list[float] = []
        self._in_order = True
        self._last: Row = {}
        # Rows of numbers are counted by their key set, which is much the commonest case.
        self._plain: Counter[tuple[str, ...]] = Counter()
        self._kinds: Counter[tuple[str, str]] = Counter()

    def write(self, offset: int, lines: list[str]) -> None:
        known = min(self._indexed - offset, len(lines))
        if known > 0 and self.slots[offset : offset + known] != lines[:known]:
            self._forget()
        super().write(offset, lines)

    def _index(self) -> None:
        for slot in range(self._indexed, len(self.slots)):
            line = self.slots[slot]
            if line is None:
                continue
            row = parse_row(line)
            step = row.get("_step", slot)
            if isinstance(step, bool) or not isinstance(step, (int, float)):
                step = slot
            if self._steps and step < self._steps[-1]:
                self._in_order = False
            self._rows.append(slot)
            self._steps.append(step)
            self._last.update(row)
            if _NUMBERS.issuperset(map(type, row.values())):
                self._plain[tuple(row)] += 1
                continue
            for key, value in _leaves(row):
                self._kinds[key, _kind(value)] += 1
        self._indexed = len(self.slots)

    def last_values(self) -> Row:
        """Return the last value of every key: the summary W&B derives when none was sent."""
        self._index()
        return dict(self._last)

    def last_step(self) -> int:
        """Return the highest step, -1 when there is no row."""
        self._index()
        return int(max(self._steps, default=-1))

    def first_step(self) -> int | None:
        """Return the lowest step, None when there is no row."""
        self._index()
        return int(min(self._steps)) if self._steps else None

    def key_kinds(self) -> dict[str, dict[str, int]]:
        """Return for each key in how many rows it holds which type; nested keys are dotted."""
        self._index()
        counts = self._kinds.copy()
        for keys, rows in self._plain.items():
            counts.update({(key, "number"): rows for key in keys})
        kinds: dict[str, dict[str, int]] = {}
        for (key, kind), rows in counts.items():
            kinds.setdefault(key, {})[kind] = rows
        return kinds

    def between(self, low: float, high: float) -> Iterator[str]:
        """Yield the rows with low <= step < high, in order."""
        self._index()
        numbers: Iterable[int]
        if self._in_order:
            numbers = range(bisect_left(self._steps, low), bisect_left(self._steps, high))
        else:
            numbers = (n for n, step in enumerate(self._steps) if low <= step < high)
        for number in numbers:
            line = self.slots[self._rows[number]]
            if line is not None:
                yield line


def thinned[T](items: list[T], count: int) -> list[T]:
    """Return at most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return items
    if count < 2:
        return items[:count]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
