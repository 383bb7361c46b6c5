"""Random fine-tuning jobs: what Azure publishes of one, when, and in which shape.

The oracle is kept apart from the product: every metric of the pool says itself how it is spelt in
an event, in a checkpoint and in a result file, and under which one name it must be in the run.
"""

import base64
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

T0 = 1_764_000_000
TICK_S = 60
LIVE_TICKS = 4
LATE_TICKS = 3
FAT = "fat/" + "f" * 350_000
"""Three rows with it fill a request."""

Value = tuple[int, str, float]


@dataclass(frozen=True)
class Metric:
    """One metric: its name in the run and in result files; `shape` puts a value into an event."""

    name: str
    column: str
    placeholder: str = "-1"

    def put(self, data: dict[str, Any], value: float) -> None:
        if self.name == "scores/graders/g/mean":
            data["scores"] = {"graders": [{"name": "g", "mean": value}]}
        elif self.name == "metric_hidden":
            data["_hidden"] = value
        else:
            data[self.name] = value


POOL = (
    Metric("train_loss", "train_loss"),
    Metric("train_mean_token_accuracy", "train_accuracy"),
    Metric("valid_loss", "validation_loss"),
    Metric("valid_mean_token_accuracy", "validation_mean_token_accuracy"),
    Metric("scores/graders/g/mean", "scores/graders/g/mean", placeholder=""),
    Metric("metric_hidden", "_hidden", placeholder=""),
    Metric(FAT, FAT, placeholder=""),
)
_USUAL = 6
_VALUES = (0.5, 1, 0, 2**62, -3.25, 1e300, 0.1, 7)


@dataclass(repr=False)
class Script:
    """One job's life. Ticks count from 0; the job is over from tick `end` on."""

    id: str
    status: str
    end: int
    waiting: int
    """Ticks before the job runs."""
    old: bool
    order: str
    repeat: bool
    page_size: int
    seed: int
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """(tick from which it is shown, event)."""
    checkpoints: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    result: bytes | None = None
    result_text: str = ""
    result_at: int = 0
    result_listed_at: int = 0
    published: list[Value] = field(default_factory=list)
    told: list[tuple[int, int, str]] = field(default_factory=list)
    """(tick from which it is shown, step, metric) of every value of an event."""

    def __repr__(self) -> str:
        # What hypothesis prints of a failing example.
        shown = {**vars(self), "result": self.result_text, "published": len(self.published)}
        return f"Script({shown})".replace(FAT, "FAT")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def body(self, tick: int) -> dict[str, Any]:
        """Return the job object as the API shows it at a tick."""
        over = tick >= self.end
        status = self.status if over else "pending" if tick < self.waiting else "running"
        finished = T0 + 30 - (100_000 if self.old else 0) + self.end * TICK_S
        listed = self.result is not None and tick >= self.result_listed_at
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": T0 - (200_000 if self.old else 0),
            "finished_at": finished if over else None,
            "status": status,
            "model": "gpt-4o-mini",
            "fine_tuned_model": "ft:m" if over and status == "succeeded" else None,
            "result_files": [self.result_file] if listed else None,
            "error": {"code": "", "message": ""} if status != "failed" else {"code": "bad"},
        }

    @property
    def result_file(self) -> str:
        return f"file-{self.id}"

    def shown(self, items: list[tuple[int, dict[str, Any]]], tick: int) -> list[dict[str, Any]]:
        """Return what is listed at a tick, in the listing's order."""
        if self.order == "shuffled":
            # Once the job is over the order stays: nobody can read a listing from item to item
            # that changes its order on the way, and an old job is read as a whole but once.
            mixed = random.Random(self.seed + min(tick, self.end))
            items = sorted(items, key=lambda _: mixed.random())
        listed = [item for at, item in items if at <= tick]
        if self.order in ("newest", "oldest"):
            listed.sort(key=lambda item: (item.get("created_at") or 0, item.get("step_number", 0)))
            if self.order == "newest":
                listed.reverse()
        if self.repeat and listed:
            listed = [*listed, listed[0], listed[len(listed) // 2]]
        return listed

    def values(self) -> dict[tuple[int, str], set[float]]:
        """Return the values that any source publishes, by step and metric."""
        found: dict[tuple[int, str], set[float]] = defaultdict(set)
        for step, name, value in self.published:
            found[step, name].add(float(value))
        return found


@st.composite
def scripts(draw: st.DrawFn, job_id: str) -> Script:
    old = draw(st.sampled_from((False, False, False, True)))
    end = 0 if old else draw(st.integers(0, LIVE_TICKS))
    fat = draw(st.integers(0, 11)) == 0
    script = Script(
        id=job_id,
        status=draw(st.sampled_from(("succeeded", "succeeded", "failed", "cancelled"))),
        end=end,
        waiting=draw(st.integers(0, 1)),
        old=old,
        order=draw(st.sampled_from(("newest", "newest", "oldest", "given", "shuffled"))),
        repeat=draw(st.booleans()),
        page_size=draw(st.sampled_from((1, 2, 3, 100))),
        seed=draw(st.integers(0, 999)),
    )
    last = 0 if old else end + LATE_TICKS
    seen = st.tuples(
        st.integers(0, last),  # when
        st.integers(0, 9),  # step
        st.integers(0, 2**_USUAL - 1),  # which metrics
        st.integers(0, 7),  # which values
        st.sampled_from(("", "", "", "", "again", "renamed", "nameless", "text", "untimed")),
    )
    for number, item in enumerate(draw(st.lists(seen, max_size=10))):
        _add_event(script, number, *item, fat=fat)
    for number, item in enumerate(draw(st.lists(seen, max_size=2))):
        _add_checkpoint(script, number, *item[:4])
    if draw(st.booleans()):
        script.result_at = draw(st.integers(end if end < last else last, last))
        script.result_listed_at = draw(st.integers(0, script.result_at))
        rows = draw(st.lists(seen, max_size=8))
        style = draw(st.tuples(st.booleans(), st.booleans(), st.sampled_from(("\n", "\r\n"))))
        script.result = _result(script, rows, *style, fat=fat)
    return script


def _metrics(mask: int, fat: bool) -> list[Metric]:
    chosen = [metric for bit, metric in enumerate(POOL[:_USUAL]) if mask >> bit & 1]
    return [*chosen, POOL[_USUAL]] if fat else chosen


def _add_event(
    script: Script, number: int, at: int, step: int, mask: int, shift: int, kind: str, *, fat: bool
) -> None:
    event: dict[str, Any] = {
        "id": f"ev-{number}",
        "object": "fine_tuning.job.event",
        "created_at": script.body(0)["created_at"] + step * 7 + shift % 2,
        "level": "info",
        "message": f"event {number}",
        "type": "metrics",
    }
    data: dict[str, Any] = {"step": step if shift % 2 else float(step), "total_steps": 10}
    for place, metric in enumerate(_metrics(mask, fat)):
        value = _VALUES[(shift + place) % len(_VALUES)]
        metric.put(data, value)
        if kind != "text":
            script.published.append((step, metric.name, value))
            script.told.append((at, step, metric.name))
    event["data"] = None if kind == "text" else data
    if kind == "untimed":
        event["created_at"] = None
    if kind == "nameless":
        del event["id"]
    script.events.append((at, event))
    if kind == "again":
        script.events.append((at, dict(event)))
    if kind == "renamed":
        script.events.append((at, {**event, "id": f"ev-{number}-again"}))


def _add_checkpoint(script: Script, number: int, at: int, step: int, mask: int, shift: int) -> None:
    metrics: dict[str, Any] = {"step": float(step)}
    for place, metric in enumerate(_metrics(mask, fat=False)):
        value = _VALUES[(shift + place) % len(_VALUES)]
        metric.put(metrics, value)
        script.published.append((step, metric.name, value))
    checkpoint = {
        "id": f"cp-{number}",
        "created_at": script.body(0)["created_at"] + step * 7,
        "step_number": step,
        "metrics": metrics,
    }
    script.checkpoints.append((at, checkpoint))


def _result(
    script: Script,
    rows: list[tuple[int, int, int, int, str]],
    encoded: bool,
    marked: bool,
    line_end: str,
    *,
    fat: bool,
) -> bytes:
    pool = POOL if fat else POOL[:_USUAL]
    lines = [",".join(("step", *(metric.column for metric in pool), "note"))]
    for _, step, mask, shift, _ in rows:
        chosen = _metrics(mask, fat)
        cells = [str(step)]
        for place, metric in enumerate(pool):
            if metric not in chosen:
                cells.append(metric.placeholder)
                continue
            value = float(_VALUES[(shift + place) % len(_VALUES)])
            cells.append(repr(value))
            script.published.append((step, metric.name, value))
        lines.append(",".join((*cells, 'said "hi, you"' if encoded else "-")))
    script.result_text = line_end.join(lines) + line_end
    content = (b"\xef\xbb\xbf" if marked else b"") + script.result_text.encode()
    return base64.b64encode(content) if encoded else content
