"""A few points of a job's losses, for a chart of the thumb's size beside the job.

Every n-th value of a metric is kept, n doubling whenever there are too many; the last value is
always among them. Never used for anything but the picture.
"""

from collections.abc import Container, Sequence
from typing import Any, Final

import msgspec

from finetune_wandb.relay.published.metrics import Number
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


class Series(msgspec.Struct):
    """The points of one metric, [step, value], in five digits."""

    every: int = 1
    count: int = 0
    points: list[list[Number]] = msgspec.field(default_factory=list)
    last: list[Number] | None = None

    def _take(self, points: Sequence[tuple[int, float]]) -> None:
        for point in points:
            if self.count % self.every == 0:
                self.points.append(_short(point))
                if len(self.points) > MOST_POINTS:
                    self.points = self.points[::2]
                    self.every *= 2
            self.count += 1
        self.last = _short(points[-1])


def extend(curve: dict[str, Series], rows: Sequence[Row], metrics: Container[str]) -> None:
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
            curve.setdefault(name, Series())._take(points)


def _short(point: tuple[int, float]) -> list[Number]:
    return [point[0], float(f"{point[1]:.5g}")]


def points(stored: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Return [step, value] pairs by metric, in step order, from a cursor's curve."""
    found = {}
    for name, one in stored.items():
        last = [one["last"]] if one["last"] and one["last"] not in one["points"] else []
        found[name] = sorted([*one["points"], *last])
    return found
