"""A job made through the official SDK trains believably, from upload to result file."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AzureOpenAI, OpenAI

from tests.dev.sandbox.openai.jobs_server import (
    FAST,
    MODEL,
    ROWS,
    JobsServer,
    create_job,
    events_of,
    jobs_server,
    until,
)

METHOD = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 2}},
}
STEPS = 30 // 2 * 4


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


async def test_job_tells_its_story_when_it_trains(server: JobsServer) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        began = int(time.time())
        made = await create_job(client, suffix="chat-01", method=METHOD, seed=7)
        assert (made.status, made.seed, made.fine_tuned_model) == ("pending", 7, None)
        assert made.estimated_finish >= made.created_at >= began
        job = await until(client, made.id, "succeeded")
        events = await events_of(client, made.id)
    hexes = made.id.removeprefix("ftjob-")
    assert job.fine_tuned_model == f"{MODEL}.ft-{hexes}-chat-01"
    assert job.trained_tokens == len(ROWS) // 4 * 4
    assert job.finished_at >= made.created_at
    messages = [event.message for event in events if event.type == "message"]
    assert messages == [
        f"Created fine-tuning job: {made.id}",
        f"Validating training file: {made.training_file}"
        f" and validation file: {made.validation_file}",
        "Job enqueued. Waiting for jobs ahead to complete.",
        "Job started.",
        "Training started.",
        "Job succeeded.",
        "Postprocessing started.",
        "Model Evaluation Passed.",
        f"Completed results file: {job.result_files[0]}",
        f"Training tokens billed: {round(job.trained_tokens * 1.305)}",
    ]
    metrics = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in metrics] == list(range(1, STEPS + 1))
    last = metrics[-1]
    assert last.message == f"Step {STEPS}: training loss={last.data['train_loss']}"
    times = [event.created_at for event in events]
    assert times == sorted(times)
    assert len({event.id for event in events}) == len(events)


async def test_statuses_follow_each_other_in_both_dialects(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=0.003, queue_seconds=0.3, finish_seconds=0.05)
    async with server.openai() as v1, server.azure() as dated:
        made = await create_job(dated)
        assert str(made.status) == "pending"
        assert made.hyperparameters.n_epochs == -1
        assert made.result_files is None
        seen: list[tuple[str, str]] = []
        end = time.monotonic() + 10
        while not seen or seen[-1] != ("succeeded", "succeeded"):
            assert time.monotonic() < end, seen
            pair = (
                str((await v1.fine_tuning.jobs.retrieve(made.id)).status),
                str((await dated.fine_tuning.jobs.retrieve(made.id)).status),
            )
            if pair not in seen:
                seen.append(pair)
        job = await dated.fine_tuning.jobs.retrieve(made.id)
    first = [status for status, _ in seen]
    assert [s for n, s in enumerate(first) if s not in first[:n]] == [
        "pending",
        "running",
        "succeeded",
    ]
    second = [status for _, status in seen]
    assert [s for n, s in enumerate(second) if s not in second[:n]] == [
        "pending",
        "running",
        "succeeded",
    ]
    assert job.hyperparameters.n_epochs == 4, "small files are repeated until 100 examples"
    assert job.hyperparameters.batch_size == 1


async def test_job_stops_and_goes_on_when_paused_and_resumed(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=0.05, queue_seconds=1.0)
    async with server.openai() as client:
        api = client.fine_tuning.jobs
        made = await create_job(client, method=METHOD)
        with pytest.raises(openai.BadRequestError, match="running"):
            await api.pause(made.id)
        await until(client, made.id, "running")
        await asyncio.sleep(0.2)
        assert str((await api.pause(made.id)).status) == "paused"
        before = await events_of(client, made.id)
        await asyncio.sleep(0.2)
        assert await events_of(client, made.id) == before
        step = max(e.data["step"] for e in before if e.type == "metrics")
        assert step < STEPS
        checkpoints = (await api.checkpoints.list(made.id)).data
        assert checkpoints[0].step_number == step
        await server.set_simulator(**FAST)
        assert (await api.resume(made.id)).status == "resuming"
        with pytest.raises(openai.BadRequestError, match="Only a paused job"):
            await api.resume(made.id)
        await until(client, made.id, "succeeded")
        steps = [e.data["step"] for e in await events_of(client, made.id) if e.type == "metrics"]
    assert steps == list(range(1, STEPS + 1))


async def test_job_ends_when_cancelled(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=0.05, queue_seconds=0.02)
    async with server.azure() as client:
        api = client.fine_tuning.jobs
        made = await create_job(client)
        await until(client, made.id, "running")
        cancelled = await api.cancel(made.id)
        assert cancelled.status == "cancelled"
        assert cancelled.finished_at
        assert cancelled.result_files is None
        before = await events_of(client, made.id)
        assert before[-1].message == "Job cancelled."
        await asyncio.sleep(0.1)
        assert await events_of(client, made.id) == before
        with pytest.raises(openai.BadRequestError, match="already cancelled"):
            await api.cancel(made.id)
    url = f"{server.host()}/openai/fine_tuning/jobs/{made.id}?api-version=2025-04-01-preview"
    assert (await server.call("DELETE", url))[0] == 204
    assert (await server.call("GET", url))[0] == 404


async def test_job_says_only_what_there_is_to_say_when_it_waits(server: JobsServer) -> None:
    async with server.openai() as client:
        made = await create_job(client, suffix="s")
    job = await server.get(f"/openai/v1/fine_tuning/jobs/{made.id}")
    assert (job["status"], job["suffix"]) == ("pending", "s")
    assert job["hyperparameters"]["batch_size"] == -1
    absent = {"result_files", "error", "organization_id", "fine_tuned_model", "finished_at"}
    assert absent & set(job) == set()


@pytest.mark.parametrize("ties", ["reversed", "written"])
async def test_events_of_one_second_are_listed_in_either_order(
    server: JobsServer, ties: str
) -> None:
    await server.set_simulator(**FAST, ties=ties)
    async with server.openai() as client:
        made = await create_job(client, method=METHOD)
        await until(client, made.id, "succeeded")
    listed: list[dict[str, Any]] = []
    after = ""
    while True:
        page = await server.get(f"/openai/v1/fine_tuning/jobs/{made.id}/events?limit=3{after}")
        listed += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={listed[-1]['id']}"
    seconds = [event["created_at"] for event in listed]
    assert seconds == sorted(seconds, reverse=True)
    steps = [
        [
            event["data"]["step"]
            for event in listed
            if event["created_at"] == second and "data" in event
        ]
        for second in set(seconds)
    ]
    assert max(map(len, steps)) > 1
    assert all(one == sorted(one, reverse=ties == "reversed") for one in steps)
    assert sorted(step for one in steps for step in one) == list(range(1, STEPS + 1))


async def test_running_job_is_not_deleted(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=5)
    async with server.azure() as client:
        made = await create_job(client)
    url = f"{server.host()}/openai/fine_tuning/jobs/{made.id}?api-version=2025-04-01-preview"
    assert (await server.call("DELETE", url))[0] == 400
    assert (await server.call("GET", url))[0] == 200


@pytest.mark.parametrize(
    ("content", "reason"), [(b'{"a": 1}\nnot json\n', "line 2"), (b"\n\n", "no examples")]
)
async def test_job_fails_when_its_training_file_is_bad(
    server: JobsServer, content: bytes, reason: str
) -> None:
    await server.set_simulator(**FAST)
    async with server.openai() as client:
        made = await client.files.create(file=("t.jsonl", content), purpose="fine-tune")
        job = await client.fine_tuning.jobs.create(model=MODEL, training_file=made.id)
        while job.status != "failed":
            assert job.status == "pending"
            await asyncio.sleep(0.01)
            job = await client.fine_tuning.jobs.retrieve(job.id)
        events = await events_of(client, job.id)
    assert (job.error.code, job.error.param) == ("400", "training_file")
    assert (job.result_files, job.trained_tokens) == ([], None)
    assert reason in job.error.message
    assert (events[-1].level, events[-1].message) == ("error", job.error.message)


async def test_control_takes_a_job_over_when_it_sets_it(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=0.005, queue_seconds=0.01)
    async with server.openai() as client:
        made = await create_job(client)
        await until(client, made.id, "running")
        await server.put_job(made.id, {"events": []})
        shown = await server.get(f"/openai/v1/fine_tuning/jobs/{made.id}")
        await asyncio.sleep(0.1)
        assert await events_of(client, made.id) == []
        assert await server.get(f"/openai/v1/fine_tuning/jobs/{made.id}") == shown
        assert shown["model"] == MODEL


async def test_sync_clients_work_when_they_drive_a_job(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=0.05, queue_seconds=0.02)

    def drive(client: OpenAI) -> list[str]:
        made = client.files.create(file=("t.jsonl", ROWS), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=MODEL, training_file=made.id)
        end = time.monotonic() + 5
        while client.fine_tuning.jobs.retrieve(job.id).status != "running":
            assert time.monotonic() < end
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
        statuses = [
            client.fine_tuning.jobs.pause(job.id).status,
            client.fine_tuning.jobs.resume(job.id).status,
            client.fine_tuning.jobs.cancel(job.id).status,
        ]
        assert job.id in [item.id for item in client.fine_tuning.jobs.list(limit=1)]
        assert len(events) >= 4
        assert client.files.content(made.id).content == ROWS
        client.close()
        return [str(status) for status in statuses]

    azure = AzureOpenAI(azure_endpoint=server.host(), api_key="k", api_version="2024-10-21")
    assert await asyncio.to_thread(drive, azure) == ["paused", "resuming", "cancelled"]
    v1 = OpenAI(base_url=f"{server.host()}/openai/v1", api_key="k")
    assert await asyncio.to_thread(drive, v1) == ["paused", "resuming", "cancelled"]


async def test_what_was_asked_is_shown_again(server: JobsServer) -> None:
    asked = {
        "integrations": [{"type": "wandb", "wandb": {"project": "tuning", "tags": ["a"]}}],
        "metadata": {"team": "search"},
        "extra_body": {"trainingType": "GlobalStandard"},
    }
    project = server.openai("/api/projects/p1/openai/v1", "contoso.services.ai.azure.com")
    async with project as client:
        made = await create_job(client, **asked)
        assert made.integrations[0].wandb.project == "tuning"
        assert made.metadata == asked["metadata"]
        assert made.trainingType == "GlobalStandard"
    path = f"/openai/fine_tuning/jobs/{made.id}?api-version=2025-04-01-preview"
    dated = await server.get(path)
    assert dated["integrations"] == asked["integrations"]
    assert dated["trainingType"] == "GlobalStandard"


async def test_reset_ends_all_jobs_and_forgets_the_settings(server: JobsServer) -> None:
    await server.set_simulator(seconds_per_step=9)
    async with server.openai() as client:
        await create_job(client)
        await server.call("POST", f"{server.url}/_sandbox/reset")
        await server.call("PUT", f"{server.url}/_sandbox/settings", {"openai_role_s": 0})
        assert (await client.fine_tuning.jobs.list()).data == []
    _, settings, _ = await server.call("GET", f"{server.url}/_sandbox/simulator")
    assert settings["seconds_per_step"] != 9


async def test_settings_name_the_field_when_control_sends_a_wrong_one(server: JobsServer) -> None:
    url = f"{server.url}/_sandbox/simulator"
    status, body, _ = await server.call("PUT", url, {"tempo": 1})
    assert (status, body["error"]) == (400, "tempo: unknown field")
