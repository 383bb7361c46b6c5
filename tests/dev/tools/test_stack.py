"""The local stack: starts as a whole, brings its host back, says what is in its way."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from azure.storage.queue.aio import QueueClient

from dev.tools import ports, processes
from dev.tools.stack import Stack, StackError

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]
ROOT = Path(__file__).resolve().parents[3]
SAMPLE_APP = ROOT / "tests" / "dev" / "devhost" / "sample_app"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    run_dir = tmp_path_factory.mktemp("run")
    async with Stack(
        isolated=True,
        in_memory=False,
        run_dir=run_dir,
        app=SAMPLE_APP,
        env={"SAMPLE_TRACE": str(run_dir / "trace")},
        host_env={"SAMPLE_GREETING": "from the test"},
    ) as stack:
        yield stack


def pid_of(stack: Stack, name: str) -> int:
    return int((stack.run_dir / f"{name}.pid").read_text())


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def pid_files(run_dir: Path) -> list[Path]:
    return list(run_dir.glob("*.pid"))


async def setting(stack: Stack, name: str) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{stack.host_url}/api/setting/{name}") as answer,
    ):
        return await answer.text()


async def test_host_is_joined_to_the_other_two_when_started(stack: Stack) -> None:
    assert await setting(stack, "SANDBOX_URL") == stack.sandbox_url
    assert await setting(stack, "WANDB_BASE_URL") == stack.wandb_url
    assert await setting(stack, "AzureWebJobsStorage") == stack.storage_connection
    assert await setting(stack, "SAMPLE_GREETING") == "from the test"
    assert await processes.answers(f"{stack.sandbox_url}/_sandbox/health")


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
async def test_pid_files_name_the_real_processes_when_running(stack: Stack) -> None:
    assert pid_of(stack, "host") == stack.host_pid
    assert "dev.sandbox.server" in command_of(pid_of(stack, "sandbox"))
    assert "azurite" in command_of(pid_of(stack, "azurite"))
    assert "dev.devhost" in command_of(pid_of(stack, "host"))


async def test_host_comes_back_when_killed(stack: Stack) -> None:
    starts, pid = stack.host_starts, stack.host_pid
    os.kill(pid_of(stack, "host"), signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            if stack.host_starts > starts:
                break
            await asyncio.sleep(0.05)
    await stack.wait_host()
    assert stack.host_pid == pid_of(stack, "host") != pid
    assert await setting(stack, "SAMPLE_GREETING") == "from the test"


async def test_queued_message_survives_when_storage_restarts(stack: Stack) -> None:
    queue = QueueClient.from_connection_string(stack.storage_connection, "kept")
    async with queue:
        await queue.create_queue()
        await queue.send_message("hello")
        await stack.restart_azurite()
        message = await queue.receive_message()
    assert message is not None
    assert message.content == "hello"


async def test_nothing_is_left_when_stack_stops(tmp_path: Path) -> None:
    async with Stack(
        isolated=True, run_dir=tmp_path, app=SAMPLE_APP, progress=lambda _: None
    ) as stack:
        chosen = stack.ports
    chosen.check_free()
    assert pid_files(tmp_path) == []


async def test_failure_says_what_ended_when_sandbox_dies(tmp_path: Path) -> None:
    async with Stack(
        isolated=True, run_dir=tmp_path, app=SAMPLE_APP, progress=lambda _: None
    ) as stack:
        os.kill(pid_of(stack, "sandbox"), signal.SIGKILL)
        with pytest.raises(StackError, match=r"sandbox ended by itself \(signal SIGKILL\)"):
            await asyncio.wait_for(stack.failure(), 10)


async def test_reason_is_in_the_error_when_host_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text("import no_such_module")
    stack = Stack(isolated=True, run_dir=tmp_path / "run", app=tmp_path, progress=lambda _: None)
    with pytest.raises(StackError, match="no_such_module"):
        await stack.__aenter__()
    stack.ports.check_free()


async def test_command_runs_until_told_to_stop_when_started_as_people_do(tmp_path: Path) -> None:
    chosen = ports.free()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dev.tools.stack", "up", "--run-dir", str(tmp_path), "--app", str(SAMPLE_APP)),
        cwd=ROOT,
        env={**os.environ, **chosen.environ()},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = []
    async with asyncio.timeout(40):
        while "Ctrl-C" not in (line := (await process.stdout.readline()).decode()):
            lines.append(line)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    text = "".join(lines)
    assert f"http://127.0.0.1:{chosen.host}/api/status" in text
    chosen.check_free()


async def test_port_and_variable_are_named_when_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in ports.free().environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOST_PORT", str(port))
        with pytest.raises(StackError, match=rf"port {port} .*HOST_PORT"):
            await Stack().__aenter__()
