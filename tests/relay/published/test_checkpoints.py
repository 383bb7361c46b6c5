"""Checkpoints: their values as rows, and as a table."""

from typing import Any

import pytest

from finetune_wandb.relay.published.rows import (
    Checkpoint,
    Conflicts,
    checkpoint_table,
    parse_checkpoint,
    parse_event,
    rows_of,
)


def checkpoint(step: Any, model: Any = "ft:ckpt", **metrics: Any) -> dict[str, Any]:
    return {"step_number": step, "fine_tuned_model_checkpoint": model, "metrics": metrics}


def parsed(*items: dict[str, Any]) -> list[Checkpoint]:
    return [one for item in items if (one := parse_checkpoint(item))]


THREE = parsed(
    checkpoint(30, "ft:30", full_valid_loss=0.4, reward=0.5, train_accuracy=0.7),
    checkpoint(10, "ft:10", full_valid_loss=0.6, reward=0.9, train_accuracy=0.9),
    checkpoint("20", "ft:20", full_valid_loss=0.4, reward=0.1),
)


@pytest.mark.parametrize(
    "item",
    [{}, checkpoint(None, loss=1), checkpoint(1.5, loss=1), {"step_number": 3}],
    ids=["empty", "no step", "half a step", "no metrics"],
)
def test_checkpoint_is_left_out_when_it_has_no_step_or_no_metrics(item: dict[str, Any]) -> None:
    assert parse_checkpoint(item) is None


def test_table_is_in_step_order_with_every_metric() -> None:
    columns, rows = checkpoint_table(THREE)
    assert columns == (
        *("step", "model"),
        *("full_valid_loss", "reward", "train_mean_token_accuracy"),
    )
    assert rows == (
        (10, "ft:10", 0.6, 0.9, 0.9),
        (20, "ft:20", 0.4, 0.1, None),
        (30, "ft:30", 0.4, 0.5, 0.7),
    )


def test_values_fill_rows_when_events_have_some() -> None:
    event = parse_event({"id": "a", "created_at": 5.0, "data": {"step": 10, "reward": 0.8}})
    assert event is not None
    rows = rows_of([event], THREE, Conflicts())
    assert rows[10].values == {
        "reward": 0.8,
        "full_valid_loss": 0.6,
        "train_mean_token_accuracy": 0.9,
    }
    assert (rows[10].at, rows[20].at) == (5.0, None)


def test_step_is_the_metrics_own_when_the_checkpoint_names_none() -> None:
    assert parse_checkpoint({"metrics": {"step": 7.0, "loss": 1}}) == Checkpoint(7, "", {"loss": 1})
