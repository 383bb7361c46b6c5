"""Job objects, events and checkpoints: whatever the fine-tuning API answers, from bytes on."""

import json
from typing import Any

import orjson
from hypothesis import given

from finetune_wandb.clients.http import Answer
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.relay.job import Job, parse_job, reduce_job
from finetune_wandb.relay.passes.ledger import Ledger
from finetune_wandb.relay.published.rows import (
    Conflicts,
    console_line,
    history_line,
    parse_checkpoint,
    parse_event,
    rows_of,
)
from finetune_wandb.relay.run.attributes import run_attributes, run_path
from finetune_wandb.relay.run.summary import Summary
from tests.fakes import relay_account
from tests.fuzz.inputs import bodies, fuzzed, raises_only

JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "created_at": 1715824115,
    "finished_at": None,
    "error": {"code": "c", "message": "m"},
    "status": "running",
    "model": "gpt-4o-mini",
    "fine_tuned_model": None,
    "hyperparameters": {"n_epochs": -1, "batch_size": "auto"},
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    "result_files": ["file-1"],
    "trained_tokens": 10,
    "seed": 105,
    "integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["t"]}}],
    "metadata": {"wandb_project": "p", "wandb_tags": "a,b"},
}
EVENT = {
    "id": "ftevent-1",
    "created_at": 1715824115,
    "level": "info",
    "message": "Step 1: training loss=2.5",
    "type": "metrics",
    "data": {
        "step": 1,
        "total_steps": 10,
        "train_loss": 2.5,
        "scores": {"graders": [{"name": "basic", "train_reward_mean": -0.5}]},
    },
}
CHECKPOINT = {
    "id": "ftckpt-1",
    "created_at": 1715824115,
    "step_number": 10,
    "metrics": {"step": 10, "full_valid_loss": 0.5},
    "fine_tuned_model_checkpoint": "m:ckpt",
}


def answered(body: bytes) -> Any:
    return raises_only(AppError, lambda: Answer(200, {}, body).json())


@fuzzed
@given(bodies(JOB))
def test_job_or_none_when_a_job_object_is_damaged(body: bytes) -> None:
    raw = answered(body)
    if not isinstance(raw, dict):
        return
    travelled = orjson.loads(orjson.dumps(reduce_job(raw)))
    job = parse_job(travelled)
    straight = parse_job(raw)
    assert (job is None) == (straight is None)
    if job is None or straight is None:
        return
    # The queue's copy of a job says what the API's own object says.
    assert (job.id, job.status, job.wandb) == (straight.id, straight.status, straight.wandb)
    account = relay_account()
    run_path(job, account, key_entity="team")
    attributes = run_attributes(job, account, asked=job.hyperparameters, files={})
    orjson.dumps(attributes.config)


@fuzzed
@given(bodies(EVENT))
def test_rows_are_json_when_an_event_is_damaged(body: bytes) -> None:
    item = answered(body)
    event = parse_event(item) if isinstance(item, dict) else None
    if event is None:
        return
    console_line(event, event.at or 0.0).encode()
    for step, row in rows_of([event], (), Conflicts()).items():
        line = history_line(row, 0, row.at or 0.0, 0.0)
        assert json.loads(line)["step"] == step
        ledger = Ledger()
        assert all(ledger.claim(step, name) for name in row.values)
        again = Ledger.load(orjson.loads(orjson.dumps(ledger.dump())))
        assert not any(again.claim(step, name) for name in row.values)


@fuzzed
@given(bodies([CHECKPOINT, CHECKPOINT]))
def test_checkpoints_are_rows_when_they_are_damaged(body: bytes) -> None:
    items = answered(body)
    if not isinstance(items, list):
        return
    found = [parse_checkpoint(item) for item in items if isinstance(item, dict)]
    listed = [one for one in found if one is not None]
    summary = Summary()
    summary.take_checkpoints(listed, Job("j", "running", hyperparameters={"n_epochs": 2}), "")
    orjson.dumps(summary.dump())
    for row in rows_of([], listed, Conflicts()).values():
        json.loads(history_line(row, 0, row.at or 0.0, 0.0))
