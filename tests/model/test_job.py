"""A job read from whatever the API answers."""

from typing import Any

import orjson
import pytest

from finetune_wandb.model.relay.job import (
    Job,
    as_number,
    flat_scalars,
    is_job_id,
    parse_job,
    reduce_job,
)


def job(**more: Any) -> Job:
    found = parse_job({"id": "ftjob-1", "status": "running", **more})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("status", "terminal", "waiting"),
    [
        *((status, True, False) for status in ("succeeded", "failed", "cancelled")),
        *((status, False, True) for status in ("pending", "queued", "validating_files")),
        *((status, False, False) for status in ("running", "paused", "pausing", "resuming", "x")),
        (None, False, False),
    ],
)
def test_status_says_whether_a_job_is_alive_when_it_is_known_or_not(
    status: str | None, terminal: bool, waiting: bool
) -> None:
    found = job(status=status)
    assert (found.is_terminal, found.is_waiting) == (terminal, waiting)


@pytest.mark.parametrize("name", ["result_files", "error", "method", "hyperparameters", "metadata"])
@pytest.mark.parametrize("value", [5, "text", True])
def test_field_is_named_odd_when_its_shape_is_wrong(name: str, value: Any) -> None:
    raw = {"id": "j", "status": "running", name: value}
    direct, travelled = parse_job(raw), parse_job(reduce_job(raw))
    assert direct is not None
    assert name in direct.oddities
    assert travelled is not None
    assert name in travelled.oddities, "lost on the queue"


@pytest.mark.parametrize("value", [None, "", "  ", 5, [], {}, "x" * 257])
def test_object_is_no_job_when_it_has_no_usable_id(value: Any) -> None:
    assert not is_job_id(value)
    assert parse_job({"id": value, "status": "running"}) is None
    assert parse_job({}) is None


@pytest.mark.parametrize("value", [-1, 1e11, 1e300, "nan", "inf", "soon", [], True, 10**400])
def test_time_is_left_out_when_it_is_none(value: Any) -> None:
    found = job(created_at=value, finished_at=value)
    assert (found.created_at, found.finished_at) == (None, None)
    assert {"created_at", "finished_at"} <= set(found.oddities)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        (7.9, 7),
        (2**62 + 1, 2**62 + 1),
        *((bad, None) for bad in (1e300, float("nan"), float("inf"), "x", True, [], 2**64)),
    ],
    ids=repr,
)
def test_whole_number_keeps_every_digit_when_it_fits(value: Any, expected: int | None) -> None:
    found = job(seed=value, trained_tokens=value)
    assert (found.seed, found.trained_tokens) == (expected, expected)


def test_methods_own_hyperparameters_win_when_both_places_have_them() -> None:
    found = job(
        hyperparameters={"n_epochs": "auto", "batch_size": 4, "deep": {"a": {"b": 1}}},
        method={
            "type": "reinforcement",
            "reinforcement": {"hyperparameters": {"n_epochs": 3}, "grader": {"source": "x"}},
        },
    )
    assert found.method == "reinforcement"
    assert found.hyperparameters == {"n_epochs": 3, "batch_size": 4, "deep/a/b": 1}


def test_job_is_the_same_when_it_travelled_by_queue() -> None:
    raw = {
        "id": "ftjob-1",
        "status": "failed",
        "created_at": 1,
        "finished_at": 2.5,
        "model": "m",
        "result_files": ["f", None, 5],
        "hyperparameters": {"n_epochs": -1, "x": None},
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}, "other": 1}},
        "error": {"code": "c", "message": "m" * 9000, "param": None},
        "integrations": [{"type": "x"}, None, {"wandb": {"project": "p", "tags": ["a", 5]}}],
        "metadata": {"a": "b", "c": 5},
        "seed": 7,
        "unknown": {"deep": 1},
    }
    reduced = orjson.loads(orjson.dumps(reduce_job(raw)))
    assert parse_job(reduced) == parse_job(raw)
    assert "unknown" not in reduced
    assert len(orjson.dumps(reduced)) < 6000
    assert reduce_job(reduced) == reduced


@pytest.mark.parametrize("integrations", [None, [], "x", [None], [{"type": "other"}]])
def test_job_is_not_native_when_it_names_no_integration(integrations: Any) -> None:
    assert job(integrations=integrations).wandb is None


@pytest.mark.parametrize("inner", [{}, {"wandb": None}, {"wandb": "x"}, {"wandb": {}}])
def test_job_is_native_when_its_integration_says_nothing_more(inner: dict[str, Any]) -> None:
    """Its service may be writing to a run of the job's id all the same."""
    raw = {"id": "j", "status": "running", "integrations": [{"type": "wandb", **inner}]}
    for found in (parse_job(raw), parse_job(reduce_job(raw))):
        assert found is not None
        assert found.wandb is not None


def test_job_is_native_when_its_integration_says_nothing_else() -> None:
    found = job(integrations=[{"type": "wandb", "wandb": {"project": None, "tags": "x"}}]).wandb
    assert found is not None
    assert (found.project, found.tags) == ("", ())


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *(((one, float(one))) for one in (0, -1, 2**70, 0.5)),
        *(((text, float(text))) for text in ("1", " 2.5 ", "-1e3")),
        *((bad, None) for bad in (True, None, "", "1_0", "x", [], 10**400)),
    ],
    ids=repr,
)
def test_number_is_read_when_it_comes_as_number_or_text(value: Any, number: float | None) -> None:
    assert as_number(value) == number


def test_flattening_ends_when_an_object_is_nested_without_end() -> None:
    deep: dict[str, Any] = {"x": 1}
    for _ in range(5000):
        deep = {"a": deep}
    assert flat_scalars({"deep": deep, "b": 1}) == {"b": 1}


@pytest.mark.parametrize(
    ("fields", "suffix"),
    [
        ({"user_provided_suffix": "mine"}, "mine"),
        ({"suffix": "azure", "user_provided_suffix": "mine"}, "azure"),
        ({"suffix": None, "user_provided_suffix": None}, ""),
    ],
)
def test_suffix_is_read_when_it_has_either_name(fields: dict[str, Any], suffix: str) -> None:
    job = parse_job(reduce_job({"id": "ftjob-1", **fields}))
    assert job is not None
    assert job.suffix == suffix
