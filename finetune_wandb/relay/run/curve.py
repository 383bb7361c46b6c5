"""A few points of a job's losses, for a chart of the thumb's size beside the job.

Every n-th value of a metric is kept, n doubling whenever there are too many; the last value is
always among them. Never used for anything but the picture.
"""

from collections.abc import Container, Sequence
from typing import Any, Final

from finetune_wandb.relay.published.rows import Row

METRICS: Final = (
    "train_loss",
    "valid_loss",
    "full_valid_loss",
    "train_mean_reward",
    "valid_mean_reward",
)
MOST_POINTS: Final = 60
_MOST: Final = 1e300
"""A value beyond is no loss; the largest ones are infinite when rounded, which JSON cannot say."""


class Curve:
    """Grows with rows; `dump` is what the cursor keeps, and what the status shows."""

    def __init__(self, dumped: dict[str, Any]) -> None:
        self._series: dict[str, dict[str, Any]] = {
            name: {**one, "points": list(one["points"])} for name, one in dumped.items()
        }

    def take(self, rows: Sequence[Row], metrics: Container[str]) -> None:
        """Add the values of rows, which are of no other metrics than these."""
        for name in METRICS:
            if name not in metrics:
                continue
            points = [
                (row.step, value)
                for row in rows
                if (value := row.values.get(name)) is not None and -_MOST < value < _MOST
            ]
            if points:
                self._add(name, points)

    def _add(self, name: str, points: list[tuple[int, float]]) -> None:
        one = self._series.setdefault(name, {"every": 1, "count": 0, "points": [], "last": None})
        for point in points:
            if one["count"] % one["every"] == 0:
                one["points"].append(_short(point))
                if len(one["points"]) > MOST_POINTS:
                    one["points"] = one["points"][::2]
                    one["every"] *= 2
            one["count"] += 1
        one["last"] = _short(points[-1])

    def dump(self) -> dict[str, Any]:
        """Return the curve as JSON values, five digits each; shared with nothing."""
        return {name: {**one, "points": list(one["points"])} for name, one in self._series.items()}


def _short(point: tuple[int, float]) -> list[float]:
    return [point[0], float(f"{point[1]:.5g}")]


def points(dumped: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Return [step, value] pairs by metric, in step order, from what `dump` returned."""
    found = {}
    for name, one in dumped.items():
        last = [one["last"]] if one["last"] and one["last"] not in one["points"] else []
        found[name] = sorted([*one["points"], *last])
    return found
