"""Holds a run's history against what was published: nothing missing, doubled, wrong or made up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.tools.demo.values import Published, Value, number, step_of


@dataclass(slots=True)
class Comparison:
    """What a comparison found. Lists are in order of step and metric."""

    expected: int = 0
    found: int = 0
    """Published values that the run holds."""
    missing: list[Value] = field(default_factory=list)
    """Published values that the run does not hold, or holds with another number."""
    duplicate: list[Value] = field(default_factory=list)
    """Values that the run holds more than once."""
    unexpected: list[Value] = field(default_factory=list)
    """Values in the run that nobody published."""

    @property
    def exact(self) -> bool:
        return self.expected > 0 and not (self.missing or self.duplicate or self.unexpected)

    def counts(self) -> dict[str, int]:
        """Return the figures as the report shows them."""
        return {
            "expected": self.expected,
            "found": self.found,
            "missing": len(self.missing),
            "duplicate": len(self.duplicate),
            "unexpected": len(self.unexpected),
        }


def compare(published: Published, history: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compare a run's rows, each with its `step`, with the published values.

    W&B's own columns begin with an underscore and are left out.
    """
    times: Counter[Value] = Counter()
    held: dict[Value, float] = {}
    for row in history:
        step = step_of(row.get("step"))
        for name, raw in row.items():
            value = number(raw)
            if name == "step" or name.startswith("_") or value is None:
                continue
            # A row without a step can belong to no published value.
            place = (-1 if step is None else step, name)
            times[place] += 1
            held[place] = value
    result = Comparison(expected=len(published))
    for place, accepted in sorted(published.items()):
        if held.get(place) in accepted:
            result.found += 1
        else:
            result.missing.append(place)
    result.duplicate = sorted(place for place, count in times.items() if count > 1)
    result.unexpected = sorted(held.keys() - published.keys())
    return result
