"""Checkpoints of a job: their values as rows, as a table, and which of them is the best."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from finetune_wandb.relay.published.metrics import Number, metric_name, metrics_of, step_of
from finetune_wandb.relay.published.rows import Row, merge

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
    all_of_them = list(checkpoints)
    usable = list(_usable(all_of_them))
    for step, metrics, _ in usable:
        # A checkpoint is written after its step; it must not give a step's row a later time.
        merge(rows, step, metrics, None)
    return len(all_of_them) - len(usable)


def checkpoint_table(
    checkpoints: Iterable[object],
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Return columns and rows, in step order: step, deployable model, then every metric."""
    known = sorted(_usable(checkpoints), key=lambda one: (one[0], one[2]))
    names = sorted({name for _, metrics, _ in known for name in metrics})
    rows = tuple(
        (step, model, *(metrics.get(name) for name in names)) for step, metrics, model in known
    )
    return ("step", "model", *names), rows


def _usable(checkpoints: Iterable[object]) -> Iterator[tuple[int, dict[str, Number], str]]:
    """Yield step, metrics and deployable model of the checkpoints that have step and metrics."""
    for item in checkpoints:
        metrics = item.get("metrics") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(metrics, Mapping):
            continue
        step = step_of(item.get("step_number"))
        if step is None:
            step = step_of(metrics.get("step"))
        if step is not None:
            model = item.get("fine_tuned_model_checkpoint")
            yield step, metrics_of(metrics), model if isinstance(model, str) else ""


def best_checkpoint(checkpoints: Iterable[object], metric: str) -> dict[str, Any]:
    """Return step, metric, value and deployable model of the best checkpoint; empty for none.

    Losses are best when low, all other metrics when high; of equals the later one stands.
    """
    known = list(_usable(checkpoints))
    wanted = (metric_name(metric),) if metric else _USUAL
    chosen = next((name for name in wanted if any(name in one[1] for one in known)), "")
    if not chosen:
        return {}
    sign = -1 if "loss" in chosen else 1
    having = [one for one in known if chosen in one[1]]
    step, values, model = max(having, key=lambda one: (sign * one[1][chosen], one[0]))
    return {"step": step, "metric": chosen, "value": values[chosen], "model": model}
