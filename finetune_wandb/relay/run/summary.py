"""The run's summary: last and best values, the best checkpoint, the job's outcome, its times; and a
curve of its losses for the dashboard.

Computed here and kept in the cursor, because W&B derives nothing for a run that is written
directly, and a resumed SDK run forgets its earlier minima.
"""

import zlib
from bisect import bisect_right
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Final

from msgspec import Struct, field

from finetune_wandb.model.relay.cursor import Kept, strict_json
from finetune_wandb.model.relay.job import Job
from finetune_wandb.relay.published.rows import Checkpoint, Event, Number, Row, metric_name
from finetune_wandb.relay.run.cost import Meter, Usage

_BIGGER_IS_BETTER: Final = ("accuracy", "reward", "score")
_LOSS: Final = "train_loss"
_VALID_LOSSES: Final = ("full_valid_loss", "valid_loss")
_REWARD: Final = "train_mean_reward"
_VALID_REWARDS: Final = ("full_valid_mean_reward", "valid_mean_reward")
PAIRS: Final = (("loss", _LOSS, _VALID_LOSSES), ("reward", _REWARD, _VALID_REWARDS))
"""What is compared between training and validation: the word for it, the metric of training, and
those of validation, of which the first that a job has counts."""
Point = tuple[int, Number]
"""(step, value)."""
_RECENT: Final = 10
_RECENT_REWARDS: Final = 200
"""Checkpoints of reinforcement jobs are judged by the last validation before them."""
_KEPT: Final = {
    _LOSS: _RECENT,
    **dict.fromkeys(_VALID_LOSSES, _RECENT),
    _REWARD: _RECENT,
    **dict.fromkeys(_VALID_REWARDS, _RECENT_REWARDS),
}


_DRAWN: Final = (_LOSS, "valid_loss", "full_valid_loss", _REWARD, "valid_mean_reward")
"""Metrics of which a curve is kept."""
_MOST_POINTS: Final = 60
_LARGEST: Final = 1e300
"""Larger values are not losses; the largest ones round to infinity, which JSON cannot hold."""


class Summary(Kept):
    """Grows with rows, events and checkpoints."""

    last: dict[str, Point] = field(default_factory=dict)
    best: dict[str, Point] = field(default_factory=dict)
    """The best validation values, each of the first step that had it."""
    recent: dict[str, list[Point]] = field(default_factory=dict)
    """The newest values of the metrics in PAIRS, in step order."""
    loss: tuple[Number, Number] | None = None
    """First and lowest training loss."""
    usage: Usage = field(default_factory=Usage)
    first_value_at: float | None = None
    newest_at: float = 0.0
    """Time of the newest event with values, also of one that repeats a step (unix seconds)."""
    running_at: float | None = None
    """Since when the relay has seen the job running (unix seconds); None while it is not."""
    total_steps: int | None = None
    """How many steps the job will have, once an event or its checkpoints have said it."""
    not_finite: bool = False
    best_checkpoint: dict[str, Any] = field(default_factory=dict)
    """Step, metric, value and deployable model of the best checkpoint."""

    def dump(self) -> dict[str, Any]:
        """Return strict JSON values: a metric may be infinite."""
        return {name: strict_json(value) for name, value in Kept.dump(self).items()}

    def take_rows(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if self.first_value_at is None:
            self.first_value_at = next((row.at for row in rows if row.at is not None), None)
        # The values of the highest step, of equals the later ones; rows mostly come in order.
        rows = sorted(rows, key=_step)
        newest: dict[str, tuple[int, Number]] = {}
        for row in reversed(rows):
            if not row.values.keys() <= newest.keys():
                for name, value in row.values.items():
                    newest.setdefault(name, (row.step, value))
        for name, last in newest.items():
            if last[0] >= self.last.get(name, last)[0]:
                self.last[name] = last
        points: dict[str, list[tuple[int, Number]]] = {
            name: [] for name in newest if name in _KEPT or _is_ranked(name)
        }
        for row in rows:
            for name, value in row.values.items():
                if name in points:
                    points[name].append((row.step, value))
        for name, found in points.items():
            if keeps := _KEPT.get(name):
                known = self.recent.get(name, [])
                self.recent[name] = sorted([*known, *found[-keeps:]], key=_first)[-keeps:]
            if _is_ranked(name):
                self._take_best(name, found)
        if losses := points.get(_LOSS):
            lowest = min(map(_second, losses))
            first, low = self.loss or (losses[0][1], lowest)
            self.loss = (first, min(low, lowest))

    def _take_best(self, name: str, points: list[tuple[int, Number]]) -> None:
        sign = -1 if _is_bigger_better(name) else 1
        known = [self.best[name]] if name in self.best else []
        self.best[name] = min((*known, *points), key=lambda point: (sign * point[1], point[0]))

    def take_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self.not_finite = self.not_finite or event.not_finite
            if event.metrics and event.at is not None and event.at > self.newest_at:
                self.newest_at = event.at
            if event.total_steps:
                self.total_steps = max(event.total_steps, self.total_steps or 0)
            self.usage.take_event(event)

    def take_checkpoints(self, checkpoints: Iterable[Checkpoint], job: Job, metric: str) -> str:
        """Choose the best of the checkpoints that there are now, once the job's rows are taken.

        By `metric` where it is named and any of them has it; else by what people judge a model of
        this kind by. Return a note where none has the metric, empty for none.
        """
        known = sorted(checkpoints, key=_first)
        if not known:
            return ""
        self._expect_steps([one.step for one in known], job)
        # Azure publishes no validation reward with a checkpoint, only with events before it.
        judged = [
            (step, {**self._rewards_at(step), **values}, model) for step, model, values in known
        ]
        names = {name for _, values, _ in judged for name in values}
        rewarded = job.is_reinforcement or not names.isdisjoint((_REWARD, *_VALID_REWARDS))
        # The loss of a reinforcement job is its policy's: near zero, and no measure of the model.
        usual = (*_VALID_REWARDS, _REWARD) if rewarded else (*_VALID_LOSSES, _LOSS)
        wanted = metric_name(metric) if metric else ""
        fits = wanted in names and not (rewarded and "loss" in wanted)
        chosen = wanted if fits else next((name for name in usual if name in names), "")
        self.best_checkpoint = {}
        if chosen:
            sign = 1 if _is_bigger_better(chosen) or "loss" not in chosen else -1
            step, values, model = max(
                (one for one in judged if chosen in one[1]),
                key=lambda one: (sign * one[1][chosen], one[0]),
            )
            self.best_checkpoint = {
                "step": step,
                "metric": chosen,
                "value": strict_json(values[chosen]),
                "model": model,
            }
        if fits or not wanted:
            return ""
        instead = f"the best is chosen by {chosen}" if chosen else "none is chosen"
        return f"BEST_CHECKPOINT_METRIC {wanted} fits no checkpoint of this job: {instead}"

    def _rewards_at(self, step: int) -> dict[str, Number]:
        """Return the last validation rewards at or before a step."""
        found: dict[str, Number] = {}
        for name in _VALID_REWARDS:
            points = self.recent.get(name, [])
            place = bisect_right(points, step, key=_first)
            if place:
                found[name] = points[place - 1][1]
        return found

    def _expect_steps(self, steps: Sequence[int], job: Job) -> None:
        """Learn how many steps there will be, where no event says it: a checkpoint is an epoch."""
        epochs = job.hyperparameters.get("n_epochs")
        if self.total_steps is None and type(epochs) is int and not job.is_reinforcement:
            each = min(after - before for before, after in zip((0, *steps), steps, strict=False))
            if each * epochs >= steps[-1] > 0:
                self.total_steps = each * epochs

    @property
    def losses(self) -> tuple[float | None, float | None, float | None]:
        """First, lowest and last training loss; None for each while there is none."""
        if not self.loss:
            return None, None, None
        return self.loss[0], self.loss[1], float(self.last[_LOSS][1])

    def progress(self, job: Job) -> float | None:
        """Return the share of the job's steps that are done, 0 to 1; None while it is unknown."""
        total = self.total_steps or self.usage.expected_steps(job)
        return min(self._top_step() / total, 1.0) if total and self.last else None

    def _top_step(self) -> int:
        return max(step for step, _ in self.last.values())

    def render(self, job: Job, *, rows: int, last_at: float | None, meter: Meter) -> dict[str, Any]:
        """Return the whole summary as W&B shows it. Durations are in seconds, cost is in USD."""
        shown: dict[str, Any] = {name: value for name, (_, value) in self.last.items()}
        for name, (step, value) in self.best.items():
            shown[f"best/{name}"] = value
            shown[f"best/{name}_step"] = step
            # Validation is rarer than training: its last value is seldom of the highest step.
            shown[f"last/{name}_step"] = self.last[name][0]
        if self.last:
            shown["step"] = self._top_step()
        shown["status"] = job.status
        progress = self.progress(job)
        known = {
            "fine_tuned_model": job.fine_tuned_model or None,
            "trained_tokens": job.trained_tokens,
            "queue_state": self.usage.queue_state(job) or None,
            "billed_hours": self.usage.billed_hours,
            "billed_tokens": self.usage.billed_tokens,
            "cost_usd": meter.cost,
            "cost_estimated": None if meter.cost is None else meter.is_estimate,
            "cost_usd_projected": meter.projected,
            "progress": None if progress is None else round(progress, 4),
            "paused_seconds": meter.paused_s or None,
        }
        shown |= {name: value for name, value in known.items() if value is not None}
        for name, value in self.best_checkpoint.items():
            shown[f"best_checkpoint/{name}"] = value
        if job.error_code or job.error_message:
            shown["error_code"] = job.error_code
            shown["error_message"] = job.error_message
        shown.update(self.usage.times(job, meter.paused_s))
        start, end = job.created_at, job.finished_at
        moment = (end if job.is_terminal else None) or last_at or start or 0.0
        runtime = max(moment - (start if start is not None else moment), 0.0)
        if rows:
            shown["_step"] = rows - 1
        shown["_timestamp"] = moment
        shown["_runtime"] = runtime
        shown["_wandb"] = {"runtime": int(runtime)}
        return shown

    def facts_hash(self, job: Job) -> int:
        """Return a hash of what the summary holds beside values and what grows with the clock."""
        facts = (
            *(job.status, job.fine_tuned_model, job.trained_tokens),
            *(job.error_code, job.error_message, job.created_at, job.finished_at),
            *(self.best_checkpoint, self.usage.queue_state(job)),
        )
        return zlib.crc32(repr(facts).encode("utf-8", "replace"))


_first, _second, _step = itemgetter(0), itemgetter(1), attrgetter("step")


@lru_cache(maxsize=1024)
def _is_bigger_better(name: str) -> bool:
    return any(word in name.lower() for word in _BIGGER_IS_BETTER)


@lru_cache(maxsize=1024)
def _is_ranked(name: str) -> bool:
    """Say whether a metric has a best value: those of validation of which it is known which way."""
    return "valid" in name and (_is_bigger_better(name) or "loss" in name.lower())


class Series(Struct):
    """A few points of one metric, [step, value] in five digits, for a small chart beside the job.

    Every n-th value is kept, n doubling whenever there are too many. Used for nothing else.
    """

    every: int = 1
    count: int = 0
    points: list[list[Number]] = field(default_factory=list)
    last: list[Number] | None = None

    def take(self, points: Sequence[tuple[int, float]]) -> None:
        for point in points:
            if self.count % self.every == 0:
                self.points.append(_short(point))
                if len(self.points) > _MOST_POINTS:
                    self.points = self.points[::2]
                    self.every *= 2
            self.count += 1
        self.last = _short(points[-1])


def extend_curve(curve: dict[str, Series], rows: Sequence[Row], metrics: Container[str]) -> None:
    """Add the values of rows, which are of no other metrics than these."""
    for name in _DRAWN:
        if name not in metrics:
            continue
        points = [
            (row.step, value)
            for row in rows
            if (value := row.values.get(name)) is not None and -_LARGEST < value < _LARGEST
        ]
        if points:
            curve.setdefault(name, Series()).take(points)


def _short(point: tuple[int, float]) -> list[Number]:
    return [point[0], float(f"{point[1]:.5g}")]


def curve_points(stored: dict[str, Any]) -> dict[str, list[list[float]]]:
    """Return [step, value] pairs by metric, in step order, from a cursor's curve."""
    found = {}
    for name, one in stored.items():
        last = [one["last"]] if one["last"] and one["last"] not in one["points"] else []
        found[name] = sorted([*one["points"], *last])
    return found
