"""Every published sample, set by control, comes back verbatim and the official SDK reads it."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dev.sandbox.openai.jobs_server import JobsServer, jobs_server

SAMPLES = Path(__file__).parents[5] / "shared" / "samples"
V1 = "/openai/v1/fine_tuning/jobs"

pytestmark = [
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples lie beside the repository"),
    pytest.mark.sandbox_only,
]


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


def _objects(found: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object inside a sample that is a job, an event or a checkpoint."""
    if isinstance(found, list):
        for place, item in enumerate(found):
            yield from _objects(item, f"{where}/{place}")
    elif isinstance(found, dict):
        if _kind(found):
            yield where, found
        else:
            for key, item in found.items():
                yield from _objects(item, f"{where}/{key}")


def _kind(found: dict[str, Any]) -> str | None:
    if "step_number" in found:
        return "checkpoints"
    if "message" in found and "created_at" in found:
        return "events"
    if "status" in found and "id" in found:
        return "job"
    return None


def _samples() -> list[Any]:
    found = []
    for path in sorted(SAMPLES.glob("*.json")):
        for where, item in _objects(json.loads(path.read_text()), path.stem):
            found.append(pytest.param(item, id=where))
    return found


@pytest.mark.parametrize("sample", _samples())
async def test_sample_comes_back_verbatim_when_set(
    server: JobsServer, sample: dict[str, Any]
) -> None:
    kind = _kind(sample)
    async with server.openai() as client:
        api = client.fine_tuning.jobs
        if kind == "job":
            name = sample["id"]
            await server.put_job(name, {"job": sample})
            assert await server.get(f"{V1}/{name}") == sample
            assert (await server.get(V1))["data"] == [sample]
            job = await api.retrieve(name)
            assert (job.id, job.status) == (name, sample["status"])
            assert [item.id async for item in api.list()] == [name]
            return
        await server.put_job("ftjob-1", {"job": {}, kind: [sample]})
        assert (await server.get(f"{V1}/ftjob-1/{kind}"))["data"] == [sample]
        if kind == "events":
            event = (await api.list_events("ftjob-1")).data[0]
            assert event.message == sample["message"]
            assert event.data == sample.get("data")
        else:
            checkpoint = (await api.checkpoints.list("ftjob-1")).data[0]
            assert checkpoint.step_number == sample["step_number"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("03_azure_spec_events.json", "events"),
        ("08_azure_tutorial_events_page.json", "events"),
        ("04_azure_spec_checkpoints.json", "checkpoints"),
        ("09_azure_tutorial_checkpoints.json", "checkpoints"),
    ],
)
async def test_page_keeps_the_published_order_when_told_so(
    server: JobsServer, name: str, kind: str
) -> None:
    items = json.loads((SAMPLES / name).read_text())["data"]
    await server.put_job("ftjob-1", {"job": {}, kind: items, "order": "given"})
    assert (await server.get(f"{V1}/ftjob-1/{kind}"))["data"] == items


async def test_published_live_page_stays_as_it_is_when_sorted(server: JobsServer) -> None:
    items = json.loads((SAMPLES / "08_azure_tutorial_events_page.json").read_text())["data"]
    await server.put_job("ftjob-1", {"job": {}, "events": items})
    assert (await server.get(f"{V1}/ftjob-1/events"))["data"] == items


async def test_result_sample_comes_back_when_set(server: JobsServer) -> None:
    text = (SAMPLES / "27_openai_docs_results_head.csv").read_text()
    await server.put_job("ftjob-1", {"job": {"status": "succeeded"}, "result_csv": text})
    file = (await server.get(f"{V1}/ftjob-1"))["result_files"][0]
    assert await server.get(f"/openai/v1/files/{file}/content") == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(path.read_text(), id=path.stem)
        for path in sorted((SAMPLES / "29_dataset_first_lines").glob("*.jsonl"))
    ],
)
async def test_data_set_sample_comes_back_when_set(server: JobsServer, text: str) -> None:
    await server.put_job("ftjob-1", {"job": {}, "files": {"file-t": {"content": text}}})
    assert await server.get("/openai/v1/files/file-t/content") == text.encode()
