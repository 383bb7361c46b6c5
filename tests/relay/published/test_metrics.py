"""Which numbers become metrics, and under which name."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_wandb.relay.published.rows import (
    VOCABULARY,
    cannot_be_negative,
    metric_name,
    metrics_of,
    read_metrics,
    step_of,
)


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("train_accuracy", "train_mean_token_accuracy"),
        ("valid_accuracy", "valid_mean_token_accuracy"),
        ("validation_accuracy", "valid_mean_token_accuracy"),
        ("validation_mean_token_accuracy", "valid_mean_token_accuracy"),
        ("valid_token_accuracy", "valid_mean_token_accuracy"),
        ("validation_loss", "valid_loss"),
        ("full_valid_loss", "full_valid_loss"),
        ("train_reward_mean", "train_mean_reward"),
        ("scores/train_reward_mean", "train_mean_reward"),
        ("train_mean_reward", "train_mean_reward"),
        ("valid_reward_mean", "valid_mean_reward"),
        ("full_valid_mean_reward", "full_valid_mean_reward"),
        ("usages/samples/train_reasoning_tokens_mean", "usage/samples/train_reasoning_tokens_mean"),
        ("scores/graders/endpoint/g/train_reward_mean", "scores/graders/g/train_reward_mean"),
        ("scores/graders/python/train_reward_mean", "scores/graders/python/train_reward_mean"),
        ("scores/graders/g/train_reward_mean", "scores/graders/g/train_reward_mean"),
        ("train_tool_calls_to_find_product", "train_tool_calls_to_find_product"),
        ("völlig neu", "völlig neu"),
        ("_step", "metric_step"),
        ("_timestamp", "metric_timestamp"),
    ],
)
def test_metric_has_its_one_name_when_it_is_spelt_otherwise(given_name: str, name: str) -> None:
    assert metrics_of({given_name: 0.5}) == {name: 0.5}


@pytest.mark.parametrize(
    "data",
    [
        {"step": 1, "total_steps": 2, "step_number": 3},
        {"a": True, "b": None, "c": "0.5", "d": [], "e": {}, "f": "text", "g": [None, "x", True]},
        {"train_loss": math.nan, "deep": {"valid_loss": math.nan}},
        {"train_loss": -1, "train_mean_token_accuracy": -1.0, "scores": {"error_count": -1}},
        {"huge": 10**400},
        {"id": 7, "row_id": 8.5, "scores": {"id": 9}, "Example_ID": 1},
    ],
    ids=["axis", "no numbers", "nan", "placeholders", "beyond any float", "identifiers"],
)
def test_nothing_is_a_metric_when_it_is_no_published_number(data: dict[str, Any]) -> None:
    assert metrics_of(data) == {}


def test_nested_values_are_joined_when_they_lie_in_objects_and_lists() -> None:
    data = {
        "scores": {"graders": [{"name": "basic", "train_reward_mean": 0.5}, {"mean": 1}, 7]},
        "usage": {"tokens": {"mean": 12.5}},
        "step": 3,
        "nested": {"step": 9},
    }
    assert metrics_of(data) == {
        "scores/graders/basic/train_reward_mean": 0.5,
        "scores/graders/1/mean": 1,
        "scores/graders/2": 7,
        "usage/tokens/mean": 12.5,
        "nested/step": 9,
    }


def test_walk_ends_when_data_is_nested_without_end() -> None:
    data: dict[str, Any] = {"x": 1}
    for _ in range(10_000):
        data = {"a": data}
    assert metrics_of(data) == {}


def test_every_name_has_its_one_name_when_the_documentation_lists_it() -> None:
    text = (Path(__file__).parents[3] / "docs" / "run-contents.md").read_text()
    table = text.partition("| Published as | Is here | Source |\n")[2].partition("\n\n")[0]
    listed = {}
    for line in table.splitlines()[1:]:
        _, spellings, here, _, _ = line.split("|")
        for name in re.findall(r"`([^`]+)`", spellings):
            listed[name] = name if here.strip() == "as published" else here.strip(" `")
    assert len(listed) > 30
    assert {name: metric_name(name) for name in listed} == listed
    assert listed.keys() >= VOCABULARY.keys()


def test_names_of_one_thing_are_one_series_when_events_and_checkpoints_spell_them() -> None:
    event = {
        "usage": {"samples": {"train_reasoning_tokens_mean": 3.5}},
        "scores": {"train_reward_mean": 0.5, "graders": [{"name": "g", "train_reward_mean": 0.25}]},
    }
    checkpoint = {"usages/samples/train_reasoning_tokens_mean": 3.5, "train_mean_reward": 0.5}
    column = {"scores/graders/python/g/train_reward_mean": 0.25}
    assert metrics_of(event) == {**metrics_of(checkpoint), **metrics_of(column)}


def test_first_value_stands_when_two_names_mean_one_metric() -> None:
    assert metrics_of({"valid_loss": 1.0, "validation_loss": 2.0}) == {"valid_loss": 1.0}


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0, 5e-324, 1.7e308, math.inf, -math.inf])
def test_value_is_kept_as_it_is_when_it_is_extreme(value: float) -> None:
    found = metrics_of({"reward": value})["reward"]
    assert (found, type(found)) == (value, type(value))


def test_number_becomes_a_float_when_it_has_more_than_64_bits() -> None:
    assert metrics_of({"n": 2**63, "m": -(2**63) - 1}) == {"n": float(2**63), "m": float(-(2**63))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train_loss", True),
        ("valid_mean_token_accuracy", True),
        ("timing/sampling_time", True),
        ("lr", True),
        ("error_count", True),
        ("scores/error_count", True),
        ("usage/tokens/mean", True),
        ("loss/rewards", False),
        ("train_reward_mean", False),
        ("kl_loss", False),
        ("sentiment", False),
        ("discount", False),
        ("already_seen", False),
        ("custom", False),
    ],
)
def test_minus_one_is_a_placeholder_only_when_the_metric_cannot_be_negative(
    name: str, expected: bool
) -> None:
    assert cannot_be_negative(name) is expected
    assert list(metrics_of({name: -1}).values()) == ([] if expected else [-1])


@pytest.mark.parametrize(
    ("value", "step"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (" 7.0 ", 7),
        ("1e3", 1000),
        ("9007199254740993", 9007199254740993),
        (2**63 - 1, 2**63 - 1),
        *((bad, None) for bad in (-1, 2**63, 7.5, "7.5", "", "x", "1_0", "nan", "inf")),
        *((bad, None) for bad in (math.nan, math.inf, True, None, [], {}, "9" * 9999)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_step_is_read_when_it_is_a_whole_number_in_any_form(value: Any, step: int | None) -> None:
    assert step_of(value) == step


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=9), _json, max_size=5))
def test_metrics_are_numbers_of_64_bits_when_data_is_anything(data: dict[str, Any]) -> None:
    for name, value in metrics_of(data).items():
        assert type(value) in (int, float)
        assert not math.isnan(value)
        assert isinstance(value, float) or -(2**63) <= value < 2**63
        assert not name.startswith("_")
        assert name not in ("step", "total_steps")


@pytest.mark.parametrize("text", ["NaN", "nan", "inf", "-Inf", "Infinity", "-Infinity"])
def test_number_is_not_finite_when_a_text_says_so(text: str) -> None:
    assert read_metrics({"train_loss": text, "lr": 0.1}) == ({"lr": 0.1}, True)
    assert read_metrics({"note": "infinite patience", "lr": 0.1}) == ({"lr": 0.1}, False)
