"""What a benchmark sees of the Functions host: CPU and memory, its log, the requests it sends.

CPU comes from the process's own clock where the system has one (Linux: nanoseconds, threads
that have ended included), because a tick takes less than the ten milliseconds psutil resolves.
The log is a file: reading it costs the measured process nothing. Requests are recorded by a
proxy, in a pass that is not measured.
"""

import asyncio
import contextlib
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

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


class Usage:
    """Measures a process while the block runs. Memory is sampled fifty times a second."""

    def __init__(self, pid: int) -> None:
        self.wall_s = self.cpu_s = 0.0
        self.peak_bytes = 0
        self._pid = pid
        self._process = psutil.Process(pid)
        self._sampler: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sample()
        self._sampler = asyncio.create_task(self._sampling())
        self._cpu, self._wall = cpu_s(self._pid), time.perf_counter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wall_s = time.perf_counter() - self._wall
        if self._sampler is not None:
            self._sampler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampler
        if error is None:
            self.cpu_s = cpu_s(self._pid) - self._cpu
            self._sample()

    async def _sampling(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)


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

    def __init__(self, *, sandbox_url: str, wandb_url: str) -> None:
        self.requests: list[Recorded] = []
        self._targets = {"azure": sandbox_url, "wandb": wandb_url}
        self._urls: dict[str, str] = {}
        self._runners: list[web.ServerRunner] = []
        self._session: aiohttp.ClientSession | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Return the app's settings that lead it through the proxy."""
        return {"SANDBOX_URL": self._urls["azure"], "WANDB_BASE_URL": self._urls["wandb"]}

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        for name, target in self._targets.items():
            runner = web.ServerRunner(
                web.Server(self._handler(name, target), request_factory=_request, access_log=None)
            )
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            self._runners.append(runner)
            self._urls[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self._runners:
            await runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _handler(self, name: str, target: str) -> Any:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            self._keep(name, target, request, body)
            assert self._session is not None, "the proxy answers only while it is entered"
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

    def _keep(self, name: str, target: str, request: web.BaseRequest, body: bytes) -> None:
        if name == "azure" and ".openai.azure.com/" not in request.raw_path:
            return
        headers = {key: request.headers[key] for key in _KEPT if key in request.headers}
        service = "wandb" if name == "wandb" else "openai"
        url = f"{target}{request.raw_path}"
        self.requests.append(Recorded(service, request.method, url, headers, body.decode()))


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY
    )
