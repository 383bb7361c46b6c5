"""Checkpoints: their values as rows, and as a table."""

from typing import Any

from finetune_wandb.relay.published.checkpoints import (
    add_checkpoints,
    checkpoint_table,
)
from finetune_wandb.relay.published.rows import Row


def checkpoint(step: Any, model: Any = "ft:ckpt", **metrics: Any) -> dict[str, Any]:
    return {"step_number": step, "fine_tuned_model_checkpoint": model, "metrics": metrics}


THREE = [
    checkpoint(30, "ft:30", full_valid_loss=0.4, reward=0.5, train_accuracy=0.7),
    checkpoint(10, "ft:10", full_valid_loss=0.6, reward=0.9, train_accuracy=0.9),
    checkpoint("20", "ft:20", full_valid_loss=0.4, reward=0.1),
]
BROKEN: list[Any] = [
    None,
    "x",
    {},
    checkpoint(None, loss=1),
    checkpoint(1.5, loss=1),
    {"step_number": 3},
]


def test_table_is_in_step_order_with_every_metric() -> None:
    columns, rows = checkpoint_table([*THREE, *BROKEN])
    assert columns == (
        *("step", "model"),
        *("full_valid_loss", "reward", "train_mean_token_accuracy"),
    )
    assert rows == (
        (10, "ft:10", 0.6, 0.9, 0.9),
        (20, "ft:20", 0.4, 0.1, None),
        (30, "ft:30", 0.4, 0.5, 0.7),
    )


def test_values_fill_rows_and_what_cannot_be_used_is_counted() -> None:
    rows = {10: Row(10, {"reward": 0.8}, 5.0)}
    assert add_checkpoints(rows, [*THREE, *BROKEN]) == len(BROKEN)
    assert rows[10].values == {
        "reward": 0.8,
        "full_valid_loss": 0.6,
        "train_mean_token_accuracy": 0.9,
    }
    assert (rows[10].at, rows[20].at) == (5.0, None)


def test_step_is_the_metrics_own_when_the_checkpoint_names_none() -> None:
    rows: dict[int, Row] = {}
    assert add_checkpoints(rows, [{"metrics": {"step": 7.0, "loss": 1}}]) == 0
    assert rows[7].values == {"loss": 1}
