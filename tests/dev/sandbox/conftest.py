"""The real sandbox process on free ports, reset around each test, and a host to hear it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import aiohttp
import pytest
from aiohttp import web

from tests.dev.sandbox.stage import SUBSCRIPTION, Client, Host, Process

ROOT = Path(__file__).parents[3]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Process]:
    port, wandb_port, host_port = _free_ports(3)
    command = [sys.executable, "-m", "dev.sandbox.server", "--port", str(port)]
    command += ["--wandb-port", str(wandb_port), "--subscription", SUBSCRIPTION]
    command += ["--host-url", f"http://127.0.0.1:{host_port}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stderr=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.fail(f"the sandbox did not start: {process.stderr.read().decode()}")
            try:
                with urlopen(f"{url}/_sandbox/health", timeout=1) as answer:
                    if answer.status == 200:
                        break
            except (URLError, ConnectionError):
                time.sleep(0.05)
        yield Process(url, f"http://127.0.0.1:{wandb_port}", host_port)
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.fixture
async def sandbox(sandbox_process: Process) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        client = Client(sandbox_process, session)
        await client.control("POST", "reset")
        await client.settings(openai_role_s=0)
        yield client
        await client.control("POST", "reset")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def start_host(
    host: Host, sandbox_process: Process
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Give a function that starts the host, for tests in which it comes late."""
    runner = web.ServerRunner(web.Server(host.handle, access_log=None))

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", sandbox_process.host_port, reuse_address=True)
        await site.start()

    yield start
    await runner.cleanup()


@pytest.fixture
async def running_host(host: Host, start_host: Callable[[], Awaitable[None]]) -> Host:
    await start_host()
    return host
