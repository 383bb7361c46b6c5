"""Checkpoints of a job: what each says, their values as rows, and as a table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from finetune_wandb.relay.published.metrics import Number, metrics_of, step_of
from finetune_wandb.relay.published.rows import Row, merge


def add_checkpoints(rows: dict[int, Row], checkpoints: Iterable[object]) -> int:
    """Add the checkpoints' values to `rows`; return how many checkpoints had none to use."""
    all_of_them = list(checkpoints)
    usable = list(read_checkpoints(all_of_them))
    for step, metrics, _ in usable:
        # A checkpoint is written after its step; it must not give a step's row a later time.
        merge(rows, step, metrics, None)
    return len(all_of_them) - len(usable)


def checkpoint_table(
    checkpoints: Iterable[object],
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Return columns and rows, in step order: step, deployable model, then every metric."""
    known = sorted(read_checkpoints(checkpoints), key=lambda one: (one[0], one[2]))
    names = sorted({name for _, metrics, _ in known for name in metrics})
    rows = tuple(
        (step, model, *(metrics.get(name) for name in names)) for step, metrics, model in known
    )
    return ("step", "model", *names), rows


def read_checkpoints(checkpoints: Iterable[object]) -> Iterator[tuple[int, dict[str, Number], str]]:
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
