"""Checkpoints of a job: their values as rows, and which of them is the best."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.metrics import Number, metric_name, metrics_of, step_of
from relay.rows import Row, merge

_USUAL: Final = (
    "full_valid_loss",
    "valid_loss",
    "full_valid_mean_reward",
    "valid_reward_mean",
    "train_loss",
)
"""What the best checkpoint is chosen by unless the settings say otherwise, the first that any has."""


def add_checkpoints(rows: dict[int, Row], checkpoints: Iterable[object]) -> int:
    """Add the checkpoints' values to `rows`; return how many checkpoints had none to use."""
    unusable = 0
    for item in checkpoints:
        metrics = item.get("metrics") if isinstance(item, Mapping) else None
        step = None
        if isinstance(item, Mapping):
            step = step_of(item.get("step_number"))
            if step is None and isinstance(metrics, Mapping):
                step = step_of(metrics.get("step"))
        if step is None or not isinstance(metrics, Mapping):
            unusable += 1
            continue
        # A checkpoint is written after its step; it must not give a step's row a later time.
        merge(rows, step, metrics_of(metrics), None)
    return unusable


def best_checkpoint(checkpoints: Iterable[object], metric: str) -> dict[str, Any]:
    """Return step, metric, value and deployable model of the best checkpoint; empty for none.

    Losses are best when low, all other metrics when high; of equals the later one stands.
    """
    known: list[tuple[int, Mapping[str, Number], str]] = []
    for item in checkpoints:
        metrics = item.get("metrics") if isinstance(item, Mapping) else None
        step = step_of(item.get("step_number")) if isinstance(item, Mapping) else None
        if isinstance(item, Mapping) and isinstance(metrics, Mapping) and step is not None:
            model = item.get("fine_tuned_model_checkpoint")
            known.append((step, metrics_of(metrics), model if isinstance(model, str) else ""))
    wanted = (metric_name(metric),) if metric else _USUAL
    chosen = next((name for name in wanted if any(name in one[1] for one in known)), "")
    if not chosen:
        return {}
    sign = -1 if "loss" in chosen else 1
    having = [one for one in known if chosen in one[1]]
    step, values, model = max(having, key=lambda one: (sign * one[1][chosen], one[0]))
    return {"step": step, "metric": chosen, "value": values[chosen], "model": model}
