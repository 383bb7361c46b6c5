"""Rows of a run from what Azure published: one row per step and moment, each value once.

The ledger says which values are taken. A value that appears later for a step that already has
a row becomes a row of its own with the same `step`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_wandb.relay.published.events import Event
from finetune_wandb.relay.published.metrics import Number


@dataclass(slots=True)
class Row:
    """Metrics at one step. `at` is unix seconds, None where the source had no time."""

    step: int
    values: dict[str, Number]
    at: float | None = None


def rows_of_events(events: Iterable[Event]) -> dict[int, Row]:
    """Return the events' values by step, the first event to name a value wins."""
    rows: dict[int, Row] = {}
    for event in events:
        if event.step is None or not event.metrics:
            continue
        merge(rows, event.step, event.metrics, event.at)
    return rows


def merge(rows: dict[int, Row], step: int, values: dict[str, Number], at: float | None) -> None:
    row = rows.get(step)
    if row is None:
        rows[step] = Row(step, values, at)
        return
    if row.at is None:
        row.at = at
    # A new mapping: the first one still belongs to the event that it came with.
    row.values = {**values, **row.values}


def history_line(row: Row, index: int, at: float, runtime: float) -> str:
    """Return a row as a line of the run's history.

    `index` is the row's position in the run. It is also W&B's own `_step`, which must not repeat,
    while the training step is the metric `step` that every chart uses as its x axis.
    """
    line: dict[str, Any] = {
        "step": row.step,
        **row.values,
        "_step": index,
        "_timestamp": at,
        "_runtime": runtime,
    }
    text = orjson.dumps(line).decode()
    if "null" in text:
        # orjson has no word for infinity; W&B's history takes the bare word, as its SDK writes it.
        text = json.dumps(line, separators=(",", ":"))
    return text
