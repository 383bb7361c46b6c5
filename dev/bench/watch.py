"""What a benchmark sees of the Functions host: CPU and memory, its log, the requests it sends.

CPU comes from the process's own clock where the system has one (Linux: nanoseconds, threads
that have ended included), because a tick takes less than the ten milliseconds psutil resolves.
The log is a file: reading it costs the measured process nothing. Requests are recorded by a
proxy, in a pass that is not measured.
"""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
from aiohttp import web
from yarl import URL

_SAMPLE_S = 0.02


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used so far. Raises OSError or psutil's error."""
    if sys.platform == "linux":
        # What clock_getcpuclockid(3) computes for a process.
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@dataclass(slots=True)
class Usage:
    """What a process used, once the block of `measured` is over; seconds and bytes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    """Sampled fifty times a second."""


@asynccontextmanager
async def measured(pid: int) -> AsyncIterator[Usage]:
    """Measure a process while the block runs."""
    usage, process = Usage(), psutil.Process(pid)

    def sample() -> None:
        usage.peak_bytes = max(usage.peak_bytes, process.memory_info().rss)

    async def sampling() -> None:
        while True:
            sample()
            await asyncio.sleep(_SAMPLE_S)

    sampler = asyncio.create_task(sampling())
    cpu, wall = cpu_s(pid), time.perf_counter()
    try:
        yield usage
        usage.wall_s, usage.cpu_s = time.perf_counter() - wall, cpu_s(pid) - cpu
        sample()
    finally:
        sampler.cancel()
        await asyncio.wait([sampler])


_POLL_S: Final = 0.004
_TICK: Final = re.compile(
    rb"tick: (\d+) accounts, (\d+) jobs listed, (\d+) messages, (\d+) accounts failed"
)


class HostLog:
    """Follows one log from where it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.stat().st_size
        self._text = b""

    def read(self) -> bytes:
        """Return everything that was written since this object was made."""
        with self._path.open("rb") as file:
            file.seek(self._place)
            new = file.read()
        self._place += len(new)
        self._text += new
        return self._text

    async def wait(self, pattern: str, count: int, *, seconds: float) -> None:
        """Wait until so many lines match. Raises TimeoutError with the end of the log."""
        end = time.monotonic() + seconds
        while self.count(pattern) < count:
            if time.monotonic() > end:
                tail = self._text[-2000:].decode(errors="replace")
                raise TimeoutError(f"not {count} times {pattern!r} in {seconds:.0f} s:\n{tail}")
            await asyncio.sleep(_POLL_S)

    def count(self, pattern: str) -> int:
        """Return how often a pattern stands in what was written."""
        return len(re.findall(pattern.encode(), self.read()))

    def messages_sent(self) -> int:
        """Return how many messages the ticks since then sent. Raises ValueError for none."""
        found = _TICK.findall(self.read())
        if not found:
            raise ValueError("the host's log tells of no tick")
        return sum(int(messages) for _, _, messages, _ in found)


_MAX_BODY: Final = 64 * 1024 * 1024
_KEPT: Final = ("Authorization", "Content-Type", "User-Agent")
_HOP: Final = {"transfer-encoding", "content-encoding", "content-length", "connection"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request: where to, what, with which headers and body."""

    service: str
    method: str
    url: str
    headers: dict[str, str]
    body: str


class Recorder:
    """Two ports, one for Azure and one for W&B; everything passes, the data plane is kept."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.requests: list[Recorded] = []
        self.environ: dict[str, str] = {}
        """The app's settings that lead it through the proxy."""
        self._session = session

    async def open(self, setting: str, target: str) -> web.ServerRunner:
        """Open the port that stands for `target`; `setting` is what names it to the app."""
        handler = self._handler(setting == "SANDBOX_URL", target)
        server = web.Server(handler, request_factory=_request, access_log=None)
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        self.environ[setting] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def _handler(self, is_azure: bool, target: str) -> Any:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            self._keep(is_azure, target, request, body)
            headers = {key: value for key, value in request.headers.items() if key != "Host"}
            async with self._session.request(
                request.method,
                URL(f"{target}{request.raw_path}", encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        return handle

    def _keep(self, is_azure: bool, target: str, request: web.BaseRequest, body: bytes) -> None:
        if is_azure and ".openai.azure.com/" not in request.raw_path:
            return
        headers = {key: request.headers[key] for key in _KEPT if key in request.headers}
        service = "openai" if is_azure else "wandb"
        url = f"{target}{request.raw_path}"
        self.requests.append(Recorded(service, request.method, url, headers, body.decode()))


@asynccontextmanager
async def recording(*, sandbox_url: str, wandb_url: str) -> AsyncIterator[Recorder]:
    """Run a recorder before these two."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as session,
        AsyncExitStack() as ports,
    ):
        recorder = Recorder(session)
        for setting, target in (("SANDBOX_URL", sandbox_url), ("WANDB_BASE_URL", wandb_url)):
            ports.push_async_callback((await recorder.open(setting, target)).cleanup)
        yield recorder


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY
    )
