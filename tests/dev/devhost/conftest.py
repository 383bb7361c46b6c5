"""Runs the host as its users do, as a process of its own, over the sample app."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from azure.storage.queue.aio import QueueClient

from dev.devhost import config
from dev.tools import azurite, ports, processes
from dev.tools.processes import Process

ROOT = Path(__file__).resolve().parents[3]
SAMPLE_APP = Path(__file__).with_name("sample_app")


class RunningHost:
    """A host under test: its address, its process, and what the sample app recorded."""

    def __init__(self, process: Process, port: int, trace: Path, http: aiohttp.ClientSession):
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.http = http
        self._trace = trace
        self._log_start = 0

    def facts(self, function: str) -> list[dict[str, Any]]:
        if not self._trace.exists():
            return []
        lines = map(json.loads, self._trace.read_text().splitlines())
        return [fact for fact in lines if fact["function"] == function]

    async def eventually(self, condition: Callable[[], Any], timeout: float = 15) -> Any:
        async with asyncio.timeout(timeout):
            while True:
                if value := condition():
                    return value
                await asyncio.sleep(0.02)

    def log(self) -> str:
        return self.process.log_path.read_text()[self._log_start :]

    def forget(self) -> None:
        self._trace.unlink(missing_ok=True)
        self._log_start += len(self.log())

    async def stop(self) -> int:
        self.process.signal(signal.SIGTERM)
        return await self.process.wait()


StartHost = Callable[..., Awaitable[RunningHost]]


@contextlib.asynccontextmanager
async def starter(folder: Path) -> AsyncIterator[StartHost]:
    """Give a function that starts hosts; its keywords are settings, `extra` the command's."""
    started: list[Process] = []
    async with aiohttp.ClientSession() as http:

        async def start(
            app: Path = SAMPLE_APP, extra: tuple[str, ...] = (), **environ: str
        ) -> RunningHost:
            port = ports.free().host
            trace = folder / "trace.jsonl"
            process = Process(
                "host",
                [
                    sys.executable,
                    "-m",
                    "dev.devhost",
                    "--app",
                    str(app),
                    "--port",
                    str(port),
                    *extra,
                ],
                {**os.environ, "SAMPLE_TRACE": str(trace), **environ},
                ROOT,
                folder,
                lambda: processes.answers(f"http://127.0.0.1:{port}/admin/host/ping"),
            )
            started.append(process)
            await process.start(30)
            return RunningHost(process, port, trace, http)

        yield start
        for process in started:
            await process.stop(grace=0)


@pytest_asyncio.fixture(loop_scope="module")
async def start_host(tmp_path: Path) -> AsyncIterator[StartHost]:
    """Start hosts of one test's own."""
    async with starter(tmp_path) as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHost]:
    async with starter(tmp_path_factory.mktemp("host")) as start:
        yield await start(**{"AzureWebJobs.on_message.Disabled": "1"})


@pytest.fixture
def host(shared_host: RunningHost) -> RunningHost:
    """A host without its queue trigger, so that no storage is needed; shared by a module."""
    shared_host.forget()
    return shared_host


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storage(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[int, Process]]:
    """Azurite in memory: its first port and its process."""
    port = ports.free().azurite
    process = Process(
        "azurite",
        azurite.command(ROOT, port, None),
        os.environ,
        ROOT,
        tmp_path_factory.mktemp("azurite"),
        lambda: processes.listens(port + 1),
    )
    await process.start(30)
    yield port, process
    await process.stop(grace=1)


class Work:
    """The sample app's queue as a producer sees it, and its poison queue."""

    def __init__(self, port: int) -> None:
        connection = config.azurite_connection(str(port))
        self.name = f"work-{uuid.uuid4().hex[:8]}"
        self.queue = QueueClient.from_connection_string(connection, self.name)
        self.poison = QueueClient.from_connection_string(connection, f"{self.name}-poison")

    async def put(self, raw: str) -> None:
        await self.queue.send_message(raw)

    async def length(self, queue: QueueClient) -> int:
        return (await queue.get_queue_properties()).approximate_message_count or 0


@pytest_asyncio.fixture(loop_scope="module")
async def work(storage: tuple[int, Process]) -> AsyncIterator[Work]:
    work = Work(storage[0])
    await work.queue.create_queue()
    yield work
    await work.queue.close()
    await work.poison.close()


@pytest_asyncio.fixture(loop_scope="module")
async def queue_host(
    start_host: StartHost, storage: tuple[int, Process], work: Work
) -> RunningHost:
    """A host whose queue function reads `work`."""
    return await start_host(
        AZURITE_PORT=str(storage[0]), SAMPLE_QUEUE=work.name, extra=("--lease", "2")
    )
