"""Starting, settings, the admin API, and what the host says when it cannot start."""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dev.devhost.conftest import RunningHost, StartHost

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).resolve().parents[3]
NO_QUEUE = {"AzureWebJobs.on_message.Disabled": "1"}
APP = """
import azure.functions as func
app = func.FunctionApp()
"""


async def run_host(app: Path, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dev.devhost", "--app", str(app), *arguments),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, stderr.decode()


def make_app(folder: Path, source: str | None = APP, host_json: str = '{"version": "2.0"}') -> Path:
    (folder / "host.json").write_text(host_json)
    if source is not None:
        (folder / "function_app.py").write_text(source)
    return folder


@pytest.mark.parametrize(
    ("source", "host_json", "code", "reason"),
    [
        pytest.param(
            "import no_such_module", '{"version": "2.0"}', 1, "no_such_module", id="import"
        ),
        pytest.param("x = 1", '{"version": "2.0"}', 1, "function app instances", id="no app"),
        pytest.param(None, '{"version": "2.0"}', 1, "function_app.py", id="no file"),
        pytest.param(APP, "{", 2, "host.json", id="host.json is not JSON"),
        pytest.param(APP, '{"version": "1.0"}', 2, "version", id="host.json version"),
        pytest.param(
            APP,
            '{"version": "2.0", "extensions": {"queues": {"batchSize": 99}}}',
            2,
            "batchSize",
            id="batch size",
        ),
        pytest.param(
            APP + '@app.timer_trigger("t", "%NO_SUCH%")\ndef tick(t: func.TimerRequest): ...',
            '{"version": "2.0"}',
            2,
            "NO_SUCH",
            id="setting missing",
        ),
        pytest.param(
            APP + '@app.blob_trigger("b", "x", "C")\ndef blob(b: func.InputStream): ...',
            '{"version": "2.0"}',
            2,
            "blobTrigger",
            id="trigger unknown here",
        ),
        pytest.param(
            APP + '@app.queue_trigger("m", "q", "NO_STORE")\ndef q(m: func.QueueMessage): ...',
            '{"version": "2.0"}',
            2,
            "NO_STORE",
            id="connection missing",
        ),
    ],
)
async def test_exit_code_and_reason_are_given_when_app_cannot_start(
    tmp_path: Path, source: str | None, host_json: str, code: int, reason: str
) -> None:
    app = make_app(tmp_path, source, host_json)
    ended, stderr = await run_host(app, "--port", "0")
    assert (ended, reason in stderr) == (code, True), stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("HOST_LEASE_S", "soon"), ("HOST_LEASE_S", "0.5"), ("HOST_AUTH", "maybe")],
)
async def test_start_is_refused_when_a_setting_of_the_host_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    code, stderr = await run_host(make_app(tmp_path), "--port", "0")
    assert (code, value in stderr) == (2, True), stderr


async def test_port_is_named_when_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, stderr = await run_host(make_app(tmp_path), "--port", str(port))
    assert code == 3
    assert str(port) in stderr
    assert "HOST_PORT" in stderr


async def test_running_request_is_answered_when_host_is_stopped(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE)

    async def nap() -> tuple[int, str]:
        async with host.http.get(f"{host.url}/api/nap/1500") as answer:
            return answer.status, await answer.text()

    napping = asyncio.create_task(nap())
    await asyncio.sleep(0.5)
    assert await host.stop() == 0
    assert await napping == (200, "rested")


async def test_environment_wins_when_settings_differ(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, AZURITE_PORT="23000", SAMPLE_SCHEDULE="0 0 0 2 2 *")

    async def value(name: str) -> str:
        async with host.http.get(f"{host.url}/api/setting/{name}") as answer:
            return await answer.text()

    assert await value("SAMPLE_SCHEDULE") == "0 0 0 2 2 *"
    assert await value("SAMPLE_GREETING") == "from the sample file"
    storage = await value("AzureWebJobsStorage")
    for part in ("127.0.0.1:23000/", "127.0.0.1:23001/", "127.0.0.1:23002/", "AccountKey="):
        assert part in storage
    assert "local.settings.sample.json" in host.log()
    assert "AccountKey" not in host.log()


async def test_admin_tells_state_and_functions_when_asked(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, **{"AzureWebJobs.fixed.Disabled": "true"})
    async with host.http.get(f"{host.url}/admin/host/status") as answer:
        assert (await answer.json())["state"] == "Running"
    async with host.http.get(f"{host.url}/admin/functions") as answer:
        functions = {item["name"]: item for item in await answer.json()}
    echo = functions["echo"]["invoke_url_template"]
    assert echo == f"{host.url}/api/echo/{{kind}}/{{number:int?}}"
    assert functions["on_message"]["isDisabled"]
    assert functions["on_message"]["config"]["bindings"][0]["queueName"] == "sample-work"
    async with host.http.get(f"{host.url}/api/echo/fixed") as answer:
        assert answer.status == 201  # the switched-off function no longer hides the other


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        pytest.param("on_timer", {}, 200, id="timer"),
        pytest.param("on_message", {"input": json.dumps({"name": "n"})}, 200, id="queue"),
        pytest.param("on_message", {"input": '{"name": "n", "fail": 1}'}, 500, id="queue fails"),
        pytest.param("on_event", {"input": '{"id": "1", "data": {}}'}, 200, id="event"),
        pytest.param("on_event", {"input": "text"}, 400, id="event is not JSON"),
        pytest.param("echo", {}, 400, id="HTTP function"),
        pytest.param("no_such", {}, 404, id="unknown"),
        pytest.param("on_timer", [], 400, id="body is not an object"),
    ],
)
async def test_function_runs_now_when_admin_asks(
    host: "RunningHost", name: str, body: object, status: int
) -> None:
    async with host.http.post(f"{host.url}/admin/functions/{name}?wait=1", json=body) as answer:
        assert answer.status == status
        assert status in (400, 404) or (await answer.json())["invocationId"]
    assert bool(host.facts(name)) == (status in (200, 500))


async def test_admin_answers_at_once_when_not_told_to_wait(start_host: "StartHost") -> None:
    host = await start_host(**NO_QUEUE, SAMPLE_TIMER_TAKES="1")
    async with host.http.post(f"{host.url}/admin/functions/on_timer", json={}) as answer:
        assert answer.status == 202
    assert host.facts("on_timer_end") == []
    await host.eventually(lambda: host.facts("on_timer_end"))
