"""What a benchmark says: figures with their bounds, the table on the screen, results.json."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dev.tools.demo.values import Published, compare


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `bound` is what it must not exceed, or must reach where `at_least`."""

    key: str
    label: str
    value: float
    bound: float | None = None
    at_least: bool = False
    unit: str = "×"

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None for a figure without one."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(slots=True)
class Findings:
    """One question's answer: figures, and the raw numbers that they were made from."""

    figures: list[Figure] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


class WorkMissingError(Exception):
    """A benchmark did not do all of its work, so its figures would flatter."""


def require(what: str, done: object, wanted: object) -> None:
    """Raise WorkMissingError unless exactly the wanted work was done."""
    if done != wanted:
        raise WorkMissingError(f"{what}: {done} of {wanted}")


def require_values(run: str, published: Published, shown: Mapping[str, Any] | None) -> None:
    """Raise WorkMissingError unless a run holds exactly the published values, each once.

    `shown` is what W&B holds of the run, None for no run.
    """
    comparison = compare(published, shown["history"] if shown else ())
    if not comparison.exact:
        raise WorkMissingError(f"{run}: {comparison.counts()}")


def median(values: Sequence[float]) -> float:
    """Return the median. Raises statistics.StatisticsError for no values."""
    return float(statistics.median(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of neighbouring measurements.

    Ours and theirs are taken in turns, so that a neighbour's noise is in both.
    """
    return median([a / b for a, b in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def show(findings: Sequence[Findings], console: Console) -> None:
    """Print the figures as a table."""
    table = Table("figure", "", "value", "bound", "", title="Benchmarks")
    for figure in (figure for one in findings for figure in one.figures):
        sign = "≥" if figure.at_least else "≤"
        bound = "" if figure.bound is None else f"{sign} {figure.bound:g}"
        verdict = {True: "[green]holds[/]", False: "[red]missed[/]", None: ""}[figure.holds]
        value = f"{figure.value:.3g}" if figure.value < 1000 else f"{figure.value:,.0f}"
        table.add_row(figure.key, figure.label, f"{value} {figure.unit}", bound, verdict)
    console.print(table)


def write(path: Path, answers: dict[str, Findings], *, quick: bool) -> None:
    """Write every figure under its key, and the raw numbers by question."""
    result: dict[str, Any] = {
        figure.key: figure.value for one in answers.values() for figure in one.figures
    }
    result["raw"] = {name: one.raw for name, one in answers.items()}
    result["machine"] = machine() | {"quick": quick}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, with how busy it is now."""
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }
