"""What a simulated job publishes: metrics per method, checkpoints, the result file."""

import base64
import csv
import io
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.dev.sandbox.openai.jobs_server import (
    FAST,
    JobsServer,
    create_job,
    events_of,
    jobs_server,
    until,
)

GRADER = {
    "type": "multi",
    "name": "all",
    "calculate_output": "0.5 * exact + 0.5 * judge",
    "graders": {
        "exact": {"type": "string_check", "name": "exact", "input": "a", "operation": "eq"},
        "judge": {"type": "score_model", "name": "judge", "model": "gpt-4o-2024-08-06"},
    },
}
METHODS: dict[str, Any] = {
    "supervised": {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 2}},
    },
    "dpo": {
        "type": "dpo",
        "dpo": {"hyperparameters": {"n_epochs": 4, "batch_size": 2, "beta": 0.2}},
    },
    "reinforcement": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": GRADER,
            "hyperparameters": {"n_epochs": 4, "batch_size": 2, "eval_interval": 10},
        },
    },
}
STEPS = 30 // 2 * 4


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


async def _rows(client: AsyncOpenAI, job: Any) -> list[dict[str, str]]:
    content = await client.files.content(job.result_files[0])
    return list(csv.DictReader(io.StringIO(content.text)))


async def test_supervised_metrics_are_believable(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await create_job(client, method=METHODS["supervised"])
        await until(client, made.id, "succeeded")
        events = await events_of(client, made.id)
    data = [event.data for event in events if event.type == "metrics"]
    losses = [d["train_loss"] for d in data]
    accuracy = [d["train_mean_token_accuracy"] for d in data]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert sum(accuracy[-10:]) > 1.2 * sum(accuracy[:10])
    assert any(b > a for a, b in itertools.pairwise(losses)), "noise"
    assert all(0 <= value <= 1 for value in accuracy)
    validated = [d["step"] for d in data if "valid_loss" in d]
    assert validated == sorted({*range(10, STEPS + 1, 10), *range(15, STEPS + 1, 15)})
    assert [d["step"] for d in data if "full_valid_loss" in d] == [15, 30, 45, 60]


async def test_last_three_checkpoints_are_kept_when_epochs_end(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await create_job(client, method=METHODS["supervised"])
        job = await until(client, made.id, "succeeded")
        found = [c async for c in client.fine_tuning.jobs.checkpoints.list(made.id, limit=2)]
        events = await events_of(client, made.id)
    assert [c.step_number for c in found] == [60, 45, 30]
    assert [c.fine_tuned_model_checkpoint for c in found] == [
        job.fine_tuned_model,
        f"{job.fine_tuned_model}:ckpt-step-45",
        f"{job.fine_tuned_model}:ckpt-step-30",
    ]
    published = {e.data["step"]: e.data for e in events if e.type == "metrics"}
    for checkpoint in found:
        metrics = checkpoint.metrics.model_dump(exclude_none=True)
        wanted = dict(published[checkpoint.step_number])
        del wanted["total_steps"]
        assert metrics == wanted


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("placeholder", ["empty", "-1"])
@pytest.mark.parametrize("encoding", ["plain", "base64"])
async def test_result_file_agrees_with_the_events(
    server: JobsServer, method: str, placeholder: str, encoding: str
) -> None:
    await server.set_simulator(result_encoding=encoding, result_placeholder=placeholder, **FAST)
    async with server.openai() as client:
        made = await create_job(client, method=METHODS[method])
        job = await until(client, made.id, "succeeded")
        raw = (await client.files.content(job.result_files[0])).content
        events = await events_of(client, made.id)
    text = (base64.b64decode(raw, validate=True) if encoding == "base64" else raw).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    data = [event.data for event in events if event.type == "metrics"]
    assert [int(row["step"]) for row in rows] == [d["step"] for d in data]
    names = {"train_accuracy": "train_mean_token_accuracy"}
    gap = "" if placeholder == "empty" else "-1"
    gaps = 0
    for row, published in zip(rows, data, strict=True):
        for column, value in row.items():
            name = names.get(column, column)
            if name in published:
                assert float(value) == published[name]
            elif "/" not in column and not column.endswith("_duration"):
                gaps += 1
                # -1 may be a margin, so a gap among margins stays empty.
                assert value == ("" if column.endswith("margin") else gap)
    assert gaps


async def test_supervised_result_file_has_the_columns_of_the_service(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await create_job(client)
        rows = await _rows(client, await until(client, made.id, "succeeded"))
        assert list(rows[0]) == [
            "step",
            "train_loss",
            "train_accuracy",
            "valid_loss",
            "valid_mean_token_accuracy",
            "full_valid_loss",
            "full_valid_mean_token_accuracy",
        ]
        made = await create_job(client, validation_file=None)
        rows = await _rows(client, await until(client, made.id, "succeeded"))
        assert list(rows[0]) == ["step", "train_loss", "train_accuracy"]


async def test_dpo_metrics_are_believable(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await create_job(client, method=METHODS["dpo"])
        job = await until(client, made.id, "succeeded")
        events = await events_of(client, made.id)
    assert job.method.dpo.hyperparameters.beta == 0.2
    data = [event.data for event in events if event.type == "metrics"]
    assert 0.3 < data[0]["train_loss"] < 1.4
    assert data[-1]["train_loss"] < 0.5 * data[0]["train_loss"]
    assert data[-1]["train_reward_margin"] > data[0]["train_reward_margin"]
    assert all(0 <= d["train_reward_accuracy"] <= 1 for d in data)


async def test_reinforcement_metrics_are_nested_as_published(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await create_job(client, model="o4-mini", method=METHODS["reinforcement"])
        job = await until(client, made.id, "succeeded")
        events = await events_of(client, made.id)
        checkpoints = (await client.fine_tuning.jobs.checkpoints.list(made.id)).data
    assert job.method.reinforcement.grader.name == "all"
    data = [event.data for event in events if event.type == "metrics"]
    first, tenth = data[0], data[9]
    assert [g["name"] for g in tenth["scores"]["graders"]] == ["exact", "judge"]
    assert [g["name"] for g in tenth["usage"]["graders"]] == ["judge"], "only models use tokens"
    assert tenth["scores"]["train_reward_mean"] == tenth["train_mean_reward"]
    assert tenth["scores"]["valid_reward_mean"] == tenth["full_valid_mean_reward"]
    assert tenth["timing"]["step"]["full_iteration"] > tenth["timing"]["step"]["training"]
    assert set(tenth["errors"]["graders"][0]) >= {"name", "train_sample_parse_error_count"}
    assert first["scores"]["valid_reward_mean"] is None
    assert "full_valid_mean_reward" not in first
    rewards = [d["train_mean_reward"] for d in data]
    assert sum(rewards[-10:]) > 1.2 * sum(rewards[:10])
    assert checkpoints[0].step_number == STEPS
    metrics = checkpoints[0].metrics.to_dict()
    assert metrics["train_mean_reward"] == data[-1]["train_mean_reward"]
    assert abs(metrics["train_loss"]) < 0.1, "the policy's loss, which is about 0"
    assert metrics["full_valid_loss"] is None
    assert "full_valid_mean_reward" not in metrics
