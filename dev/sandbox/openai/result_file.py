"""The result file of a job: one CSV row per step, in one of the ways services write it.

Which columns there are and what a step measured comes from the curve.
"""

import base64
import csv
import io
from collections.abc import Container, Iterable
from typing import Any

FILENAME = "results.csv"


def write(
    columns: dict[str, tuple[str, ...]],
    steps: Iterable[dict[str, Any]],
    minus_one: bool = False,
    signed: Container[str] = (),
) -> str:
    """Return the CSV text. A metric that a step did not measure is empty.

    With `minus_one` it is -1 instead, as some services write it, but not in the `signed`
    columns, where -1 could be a measurement.
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(columns)
    gaps = ["-1" if minus_one and column not in signed else "" for column in columns]
    for step in steps:
        found = [_at(step, path) for path in columns.values()]
        out.writerow(
            [gap if value is None else value for value, gap in zip(found, gaps, strict=True)]
        )
    return text.getvalue()


def encode(text: str, encoding: str) -> bytes:
    """Return the file's bytes: the text itself, or for "base64" the base64 text of it."""
    raw = text.encode()
    return base64.b64encode(raw) if encoding == "base64" else raw


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(data, list):
            data = data[int(part)]
        elif isinstance(data, dict):
            data = data.get(part)
    return data
