"""What the control path sets is what the API answers."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dev.sandbox import tokens
from tests.dev.sandbox.openai.jobs_server import JobsServer, jobs_server

JOB = "ftjob-1"
V1 = "/openai/v1/fine_tuning/jobs"


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


async def test_job_is_served_verbatim_when_its_object_is_odd(server: JobsServer) -> None:
    odd = {
        "id": JOB,
        "status": "postprocessing",
        "result_files": None,
        "error": {},
        "hyperparameters": {"n_epochs": -1},
        "surprise": [1, {"a": None}],
        "trained_tokens": 1.0,
    }
    await server.put_job(JOB, {"job": odd})
    assert await server.get(f"{V1}/{JOB}") == odd
    dated = "/openai/fine_tuning/jobs"
    assert await server.get(f"{dated}/{JOB}?api-version=2024-10-21") == odd
    assert (await server.get(f"{dated}?api-version=2024-10-21"))["data"] == [odd]
    project = "/api/projects/p1/openai/v1/fine_tuning/jobs"
    assert await server.get(f"{project}/{JOB}", "contoso.services.ai.azure.com") == odd
    assert await server.get(f"{V1}/{JOB}", "CONTOSO.cognitiveservices.azure.com") == odd


async def test_accounts_are_apart_when_jobs_share_an_id(server: JobsServer) -> None:
    await server.put_job(JOB, {"job": {"status": "running"}}, account="a")
    await server.put_job(JOB, {"job": {"status": "failed"}}, account="B")
    assert (await server.get(f"{V1}/{JOB}", "a.openai.azure.com"))["status"] == "running"
    assert (await server.get(f"{V1}/{JOB}", "b.openai.azure.com"))["status"] == "failed"
    assert (await server.get(V1, "stranger.openai.azure.com"))["data"] == []


async def test_fields_left_out_keep_their_value_when_a_job_advances(server: JobsServer) -> None:
    event = {"id": "e1", "created_at": 1}
    checkpoint = {"id": "c1", "created_at": 1}
    body: dict[str, Any] = {
        "job": {"status": "running"},
        "events": [event],
        "checkpoints": [checkpoint],
        "result_csv": "step,train_loss\n1,0.5\n",
    }
    await server.put_job(JOB, body)
    first = await server.get(f"{V1}/{JOB}")
    await server.put_job(JOB, {"job": {"status": "succeeded"}})
    job = await server.get(f"{V1}/{JOB}")
    assert job["status"] == "succeeded"
    assert job["result_files"] == first["result_files"]
    assert (await server.get(f"{V1}/{JOB}/events"))["data"] == [event]
    assert (await server.get(f"{V1}/{JOB}/checkpoints"))["data"] == [checkpoint]
    await server.put_job(JOB, {"events": []})
    assert (await server.get(f"{V1}/{JOB}/events"))["data"] == []
    assert (await server.get(f"{V1}/{JOB}"))["status"] == "succeeded"


@pytest.mark.parametrize("named", [None, [], ["file-given", "file-other"]])
async def test_result_file_is_served_when_a_csv_is_set(
    server: JobsServer, named: list[str] | None
) -> None:
    text = "step,train_loss\n1,-1\n2,\n"
    await server.put_job(JOB, {"job": {"result_files": named}, "result_csv": text})
    async with server.openai() as client:
        job = await client.fine_tuning.jobs.retrieve(JOB)
        assert job.result_files
        if named:
            assert job.result_files == named
        content = await client.files.content(job.result_files[0])
        assert content.content == text.encode()
        assert content.response.headers["content-type"] == "application/octet-stream"
        described = await client.files.retrieve(job.result_files[0])
        assert described.purpose == "fine-tune-results"
        assert described.bytes == len(text)
    await server.put_job(JOB, {"result_encoding": "base64"})
    raw = await server.get(f"/openai/v1/files/{job.result_files[0]}/content")
    assert base64.b64decode(raw, validate=True).decode() == text
    await server.put_job(JOB, {"result_csv": None})
    assert (await server.get(f"{V1}/{JOB}"))["result_files"] == named
    url = f"{server.host()}/openai/v1/files/{job.result_files[0]}/content"
    assert (await server.call("GET", url))[0] == 404


async def test_training_files_are_served_when_set(server: JobsServer) -> None:
    raw = bytes(range(256))
    files = {
        "file-text": {"filename": "train.jsonl", "purpose": "fine-tune", "content": "{}\n"},
        "file-raw": {"content_base64": base64.b64encode(raw).decode()},
    }
    await server.put_job(JOB, {"job": {}, "files": files})
    assert await server.get("/openai/v1/files/file-text/content") == b"{}\n"
    assert await server.get("/openai/v1/files/file-raw/content") == raw
    assert (await server.get("/openai/v1/files/file-text"))["filename"] == "train.jsonl"
    await server.put_job(JOB, {"files": {"file-raw": None}})
    status, _, _ = await server.call("GET", f"{server.host()}/openai/v1/files/file-raw")
    assert status == 404
    assert await server.get("/openai/v1/files/file-text/content") == b"{}\n"


async def test_what_is_set_can_be_read_back_and_set_again(server: JobsServer) -> None:
    body = {
        "job": {"id": JOB, "status": "running", "created_at": 7},
        "events": [{"id": "e2", "created_at": 2}, {"id": "e1", "created_at": 1}],
        "checkpoints": [],
        "result_csv": "step\n1\n",
        "files": {"file-a": {"content": "x"}},
    }
    await server.put_job(JOB, body)
    url = f"{server.url}/_sandbox/accounts/contoso/jobs"
    status, shown, _ = await server.call("GET", f"{url}/{JOB}")
    assert status == 200
    assert shown == body
    assert (await server.call("GET", url))[1] == [JOB]
    assert (await server.call("PUT", f"{url}/{JOB}", shown))[0] == 200
    assert (await server.call("DELETE", f"{url}/{JOB}"))[0] == 200
    assert (await server.call("GET", f"{url}/{JOB}"))[0] == 404
    assert (await server.get("/openai/v1/files"))["data"] == []
    assert (await server.get(V1))["data"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"job": {}, "event": []}, "event"),
        ({"job": []}, "job"),
        ({"events": []}, "job"),
        ({"job": {"id": "other"}}, "job.id"),
        ({"job": {}, "events": {}}, "events"),
        ({"job": {}, "events": ["x"]}, "events"),
        ({"job": {}, "checkpoints": None}, "checkpoints"),
        ({"job": {}, "result_csv": 1}, "result_csv"),
        ({"job": {}, "result_encoding": "gzip"}, "result_encoding"),
        ({"job": {}, "order": "oldest"}, "order"),
        ({"job": {}, "page_size": 0}, "page_size"),
        ({"job": {}, "files": []}, "files"),
        ({"job": {}, "files": {"f": {}}}, "files.f"),
        ({"job": {}, "files": {"f": {"content": "", "name": ""}}}, "files.f.name"),
        ({"job": {}, "files": {"f": {"content_base64": "*"}}}, "files.f.content_base64"),
        ([], "the body"),
    ],
)
async def test_control_names_the_field_when_a_body_is_wrong(
    server: JobsServer, body: Any, field: str
) -> None:
    url = f"{server.url}/_sandbox/accounts/contoso/jobs/{JOB}"
    status, answer, _ = await server.call("PUT", url, body)
    assert status == 400
    assert answer["error"].startswith(f"{field}:") or field == "the body"
    assert (await server.get(V1))["data"] == [], "a refused body changes nothing"


async def test_actions_change_the_status_when_control_set_the_job(server: JobsServer) -> None:
    await server.put_job(JOB, {"job": {"status": "running", "object": "fine_tuning.job"}})
    async with server.azure() as client:
        api = client.fine_tuning.jobs
        assert str((await api.pause(JOB)).status) == "paused"
        assert (await api.resume(JOB)).status == "running"
        cancelled = await api.cancel(JOB)
        assert cancelled.status == "cancelled"
        assert cancelled.finished_at
    await server.put_job(JOB, {"events": []})
    assert (await server.get(f"{V1}/{JOB}"))["status"] == "cancelled"
    status, body, _ = await server.call("POST", f"{server.host()}{V1}/{JOB}/cancel")
    assert status == 400
    assert "cancelled" in body["error"]["message"]


async def test_events_of_one_second_keep_the_order_of_writing_when_asked(
    server: JobsServer,
) -> None:
    events = [
        {"id": f"e{step}", "created_at": 100 + step // 3, "data": {"step": step}}
        for step in range(1, 7)
    ]
    await server.put_job("ftjob-1", {"job": {}, "events": events, "order": "written"})
    page = await server.get("/openai/v1/fine_tuning/jobs/ftjob-1/events")
    assert [event["data"]["step"] for event in page["data"]] == [6, 3, 4, 5, 1, 2]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"deny": "PermissionDenied"}, 401, "lacks the required data action"),
        ({"deny": "audience"}, 401, "audience is incorrect"),
        ({"deny": "firewall"}, 403, "Virtual Network/Firewall"),
        ({"deny": "PermissionDenied", "seconds": 0}, 200, ""),
        ({"deny": None}, 200, ""),
    ],
)
async def test_account_refuses_tokens_when_its_access_is_closed(
    server: JobsServer, body: dict[str, Any], status: int, said: str
) -> None:
    url = f"{server.url}/_sandbox/accounts/contoso/access"
    assert (await server.call("PUT", url, body))[0] == 200
    headers = {"api-key": "", "Authorization": "Bearer any"}
    jobs_url = f"{server.host()}/openai/v1/fine_tuning/jobs"
    got, answer, _ = await server.call("GET", jobs_url, None, **headers)
    assert (got, said in str(answer)) == (status, True)
    assert (await server.call("GET", jobs_url))[0] == (403 if status == 403 else 200)


async def test_role_is_missing_at_first_when_it_takes_time_to_spread(server: JobsServer) -> None:
    await server.call("PUT", f"{server.url}/_sandbox/settings", {"openai_role_s": 0.3})
    headers = {"api-key": "", "Authorization": "Bearer any"}
    url = f"{server.host()}/openai/v1/fine_tuning/jobs"
    status, answer, _ = await server.call("GET", url, None, **headers)
    assert (status, answer["error"]["code"]) == (401, "PermissionDenied")
    await asyncio.sleep(0.35)
    assert (await server.call("GET", url, None, **headers))[0] == 200


@pytest.mark.parametrize(
    ("host", "audience", "status"),
    [
        ("contoso.openai.azure.com", "https://cognitiveservices.azure.com", 200),
        ("contoso.openai.azure.com", "https://ai.azure.com", 401),
        ("contoso.services.ai.azure.com", "https://ai.azure.com", 200),
        ("contoso.services.ai.azure.com", "https://cognitiveservices.azure.com", 401),
    ],
)
async def test_token_passes_only_when_its_audience_is_the_hosts(
    server: JobsServer, host: str, audience: str, status: int
) -> None:
    token = tokens.issue(tokens.DEFAULT_TENANT, "client", audience)
    headers = {"api-key": "", "Authorization": f"Bearer {token}"}
    url = f"{server.host(host)}/openai/v1/fine_tuning/jobs"
    assert (await server.call("GET", url, None, **headers))[0] == status
