"""Whatever stands where something else belongs: nothing raises out of a job, and it is named."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from finetune_wandb.model.relay.job import parse_job, reduce_job
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.run.attributes import run_attributes
from tests.fakes import relay_account
from tests.relay.stage import JOB, T0, Stage

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
_BAD: tuple[Any, ...] = (
    *(None, "text", "", "1_0", "NaN", [], {}, [None, [1]], {"a": {"b": 1}}, True, -1, 0.5),
    *(2**63, -(2**64), 1e308, "é\u0000\n" * 9, "9" * 400, float("inf"), float("nan")),
)
_JOB: dict[str, Any] = {
    "id": JOB,
    "object": "fine_tuning.job",
    "created_at": T0,
    "finished_at": T0 + 100,
    "status": "succeeded",
    "model": "gpt-4o-mini",
    "fine_tuned_model": "ft:m",
    "trained_tokens": 1234,
    "training_file": "file-1",
    "validation_file": None,
    "result_files": ["file-r"],
    "hyperparameters": {"n_epochs": -1, "batch_size": "auto"},
    "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}},
    "integrations": [],
    "metadata": {"a": "b"},
    "error": {"code": "c", "message": "m", "param": None},
    "seed": 7,
    "suffix": "s",
    "trainingType": "globalStandard",
}
_EVENT: dict[str, Any] = {
    "id": "ev-1",
    "created_at": T0 + 1,
    "level": "info",
    "message": "Step 1",
    "type": "metrics",
    "data": {"step": 1, "train_loss": 2.0, "scores": {"graders": [{"name": "g", "mean": 1}]}},
}
_CHECKPOINT: dict[str, Any] = {
    "id": "cp-1",
    "created_at": T0 + 1,
    "step_number": 1,
    "fine_tuned_model_checkpoint": "ft:m:ckpt-step-1",
    "metrics": {"step": 1.0, "full_valid_loss": 2.0},
}


def paths(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every part of an object."""
    items = found.items() if isinstance(found, dict) else enumerate(found)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*path, key))


def changed(found: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value at one place."""
    result = copy.deepcopy(found)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


def wrong(found: Any) -> Iterator[Any]:
    """Yield copies with one part missing or replaced by what does not belong there."""
    for path in paths(found):
        for value in _BAD:
            yield changed(found, path, value)


async def relay(job: dict[str, Any], events: Any, checkpoints: Any, file: bytes = b"") -> Any:
    stage = Stage()
    stage.api.jobs.clear()
    lists = {"events": _in_64_bits(events), "checkpoints": _in_64_bits(checkpoints)}
    stage.api.put({**_in_64_bits(job), "id": JOB}, **lists)
    stage.api.files["file-r"] = file or b"step,train_loss\n2,1.5\n"
    outcomes = await stage.tick()
    return stage, outcomes


def _fine(outcomes: list[JobOutcome], what: Any) -> None:
    for outcome in outcomes:
        assert "unexpected" not in outcome.error, what


async def test_job_is_relayed_when_any_field_of_it_is_wrong() -> None:
    for body in wrong(_JOB):
        if not isinstance(body.get("id"), str) or body["id"] != JOB:
            continue
        stage, outcomes = await relay(body, [_EVENT], [_CHECKPOINT])
        _fine(outcomes, body)
        routed = outcomes[0].relay_state in ("live", "ending")
        assert routed or "project" in outcomes[0].error, (body, outcomes)
        assert (1, "train_loss", 2.0) in stage.values(), body


async def test_queue_message_can_be_written_when_any_field_of_a_job_is_wrong() -> None:
    for body in wrong(_JOB):
        reduced = reduce_job(json.loads(json.dumps(body)))
        travelled = orjson.loads(orjson.dumps(_in_64_bits(reduced)))
        job, direct = parse_job(travelled), parse_job(body)
        assert (job is None) == (direct is None)
        if job is not None:
            orjson.dumps(run_attributes(job, relay_account(), asked={}, files={}))


def _in_64_bits(value: Any) -> Any:
    """Return what the HTTP client makes of numbers beyond 64 bits."""
    if isinstance(value, dict):
        return {name: _in_64_bits(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_in_64_bits(inner) for inner in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value)
    return value


async def test_other_values_are_relayed_when_an_event_or_checkpoint_is_wrong() -> None:
    good = {**_EVENT, "id": "ev-2", "data": {"step": 7, "train_loss": 0.5}}
    events, checkpoints = list(wrong(_EVENT)), list(wrong(_CHECKPOINT))
    assert len(events) > 200
    stage, outcomes = await relay(_JOB, [*events, good], checkpoints)
    _fine(outcomes, "all at once")
    assert (7, "train_loss", 0.5) in stage.values()
    assert (2, "train_loss", 1.5) in stage.values()
    places = [(step, name) for step, name, _ in stage.values()]
    assert len(places) == len(set(places))
    assert stage.run.state == "finished"
    assert any("checkpoints had no step" in note for note in stage.cursor.notes)
    for event in events:
        _, outcomes = await relay(_JOB, [event], [])
        _fine(outcomes, event)


async def test_every_metric_is_relayed_when_an_event_has_ten_thousand() -> None:
    data = {f"grader_{n}_score_mean": n / 7 for n in range(10_000)}
    events = [{**_EVENT, "id": f"ev-{s}", "data": {"step": s, **data}} for s in range(1, 4)]
    stage, outcomes = await relay({**_JOB, "result_files": []}, events, [])
    _fine(outcomes, "10,000 metrics")
    assert stage.cursor.values == 30_000
    assert len(stage.values()) == 30_000


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples lie beside the repository")
async def test_published_samples_are_relayed_when_they_are_whole_wrong_or_cut() -> None:
    seen = 0
    for file in sorted(SAMPLES.glob("*.json")):
        for item in _objects(json.loads(file.read_text())):
            seen += 1
            for body in (item, *_cut(item)):
                events = [body] if "message" in body or "data" in body else []
                checkpoints = [body] if "step_number" in body else []
                job = body if "status" in body else _JOB
                _, outcomes = await relay(job, events, checkpoints)
                _fine(outcomes, (file.name, body))
    assert seen > 40


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict) and "id" in found:
        yield found
    for inner in found.values() if isinstance(found, dict) else found:
        if isinstance(inner, (dict, list)):
            yield from _objects(inner)


def _cut(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the object without each of its fields, and with each of them null."""
    for name in item:
        yield {key: value for key, value in item.items() if key != name}
        yield {**item, name: None}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples lie beside the repository")
async def test_published_result_file_is_relayed_when_it_is_cut_anywhere() -> None:
    content = (SAMPLES / "27_openai_docs_results_head.csv").read_bytes()
    for end in range(len(content)):
        stage, outcomes = await relay(_JOB, [_EVENT], [], content[:end] or b" ")
        _fine(outcomes, content[:end])
        assert stage.run.state == "finished"
