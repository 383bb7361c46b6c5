"""The API's manners: credentials, paths, error bodies, uploads."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.dev.sandbox.openai.jobs_server import JobsServer, jobs_server

V1 = "/openai/v1/fine_tuning/jobs"
ROWS = b'{"messages": []}\n' * 10


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic abc"}, 401),
        ({"api-key": ""}, 401),
        ({"Authorization": "Bearer anything"}, 200),
        ({"api-key": "anything"}, 200),
    ],
)
async def test_call_is_let_in_when_it_carries_any_credential(
    server: JobsServer, headers: dict[str, str], status: int
) -> None:
    async with server.session.get(server.host() + V1, headers=headers) as answer:
        assert answer.status == status
        assert answer.headers["apim-request-id"]
        body = await answer.json()
    if status == 401:
        assert body["statusCode"] == 401
        assert "Access token is missing" in body["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/openai/fine_tuning/jobs", 404),
        ("GET", "/openai/fine_tuning/jobs?api-version=2024-10-21", 200),
        ("GET", "/openai/v1/fine_tuning/jobs?api-version=preview", 200),
        ("GET", "/api/projects/p/openai/v1/fine_tuning/jobs", 200),
        ("GET", "/api/projects/p/openai/fine_tuning/jobs?api-version=2024-10-21", 404),
        ("GET", "/openai/v2/fine_tuning/jobs", 404),
        ("GET", "/openai/v1/fine_tuning/jobs/x/graph", 404),
        ("PUT", "/openai/v1/fine_tuning/jobs", 405),
        ("GET", "/openai/v1/files/x/content", 404),
        ("DELETE", "/openai/v1/fine_tuning/jobs/x", 405),
    ],
)
async def test_path_leads_where_it_does_in_the_cloud(
    server: JobsServer, method: str, path: str, status: int
) -> None:
    assert (await server.call(method, server.host() + path))[0] == status


@pytest.mark.parametrize("part", ["", "/events", "/checkpoints", "/cancel", "/pause", "/resume"])
async def test_unknown_job_is_refused_with_the_error_body(server: JobsServer, part: str) -> None:
    method = "GET" if part in ("", "/events", "/checkpoints") else "POST"
    status, body, headers = await server.call(method, f"{server.host()}{V1}/ftjob-none{part}")
    assert status == 404
    assert set(body["error"]) == {"code", "message", "param", "type"}
    assert "ftjob-none" in body["error"]["message"]
    assert headers["apim-request-id"]


async def test_file_goes_up_and_down_when_the_sdk_carries_it(server: JobsServer) -> None:
    raw = bytes(range(256)) * 4000
    for client in (server.azure(), server.openai()):
        async with client:
            made = await client.files.create(file=("träin.jsonl", raw), purpose="fine-tune")
            assert made.bytes == len(raw)
            assert (await client.files.retrieve(made.id)).status == "processed"
            assert (await client.files.content(made.id)).content == raw
            assert made.id in [file.id async for file in client.files.list(purpose="fine-tune")]
            assert [file async for file in client.files.list(purpose="batch")] == []
            await client.files.delete(made.id)
            with pytest.raises(openai.NotFoundError):
                await client.files.retrieve(made.id)


async def test_sdk_pages_through_files_when_there_are_many(server: JobsServer) -> None:
    files = {f"file-{n}": {"content": "x"} for n in range(25)}
    await server.put_job("ftjob-1", {"job": {}, "files": files})
    async with server.openai() as client:
        found = [file.id async for file in client.files.list(limit=4)]
    assert found == [f"file-{n}" for n in range(24, -1, -1)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"file": b"x"}, "purpose"),
        ({"purpose": "homework", "file": b"x"}, "purpose"),
        ({"purpose": "fine-tune"}, "file"),
    ],
)
async def test_upload_is_refused_when_a_field_is_missing(
    server: JobsServer, fields: dict[str, Any], param: str
) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            form.add_field(name, value, filename="a.jsonl")
        else:
            form.add_field(name, value)
    url = f"{server.host()}/openai/v1/files"
    async with server.session.post(url, data=form, headers={"api-key": "k"}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data"])
async def test_upload_is_refused_when_it_is_no_form(server: JobsServer, content_type: str) -> None:
    headers = {"api-key": "k", "Content-Type": content_type}
    url = f"{server.host()}/openai/v1/files"
    async with server.session.post(url, data=b"{}", headers=headers) as answer:
        assert answer.status == 400


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": None}, "training_file"),
        ({"training_file": "file-none"}, "training_file"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"model": None}, "model"),
        ({"model": 4}, "model"),
        ({"seed": "x"}, "seed"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"hyperparameters": {"n_epochs": 0}}, "n_epochs"),
        ({"hyperparameters": {"batch_size": 1.5}}, "batch_size"),
        ({"hyperparameters": {"beta": 0.1}}, "beta"),
        ({"method": {"type": "magic"}}, "method"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "grader"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations"),
        ({"metadata": {"k": 1}}, "metadata"),
    ],
)
async def test_create_names_the_parameter_when_it_is_wrong(
    server: JobsServer, changes: dict[str, Any], param: str
) -> None:
    async with server.openai() as client:
        made = await client.files.create(file=("t.jsonl", ROWS), purpose="fine-tune")
    body = {"model": "gpt-4o-mini-2024-07-18", "training_file": made.id} | changes
    status, answer, _ = await server.call("POST", server.host() + V1, body)
    assert status == 400
    assert answer["error"]["param"] == param
    assert (await server.get(V1))["data"] == []


async def test_reinforcement_is_refused_when_the_api_is_dated(server: JobsServer) -> None:
    files = {"file-t": {"content": "{}"}, "file-v": {"content": "{}"}}
    await server.put_job("ftjob-1", {"job": {}, "files": files})
    body = {
        "model": "o4-mini-2025-04-16",
        "training_file": "file-t",
        "validation_file": "file-v",
        "method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "python"}}},
    }
    dated = "/openai/fine_tuning/jobs?api-version=2025-04-01-preview"
    assert (await server.call("POST", server.host() + dated, body))[0] == 400
    assert (await server.call("POST", server.host() + V1, body))[0] == 200
