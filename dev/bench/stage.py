"""A stack to measure on: accounts that are healthy, jobs to relay, ticks on demand.

Timers never fire by themselves here; what runs is what the benchmark asks for. Everything is
driven from outside, as Azure and a person would drive it.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from dev.bench.data import Json
from dev.bench.watch import HostLog, Recorded, Recorder, Usage
from dev.tools import processes, wiring
from dev.tools.demo.cloud import Cloud, until
from dev.tools.local_stack import ROOT, Stack
from dev.tools.processes import Process

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000001"
KEY: Final = "wandb_v1_" + "a" * 77
PROJECT: Final = "sandbox-team/azure-openai-fine-tuning"
NEVER: Final = "0 0 0 29 2 *"
_AT_ONCE: Final = 16
_PATIENCE_S: Final = 300.0
REST_S: Final = 1.1
"""W&B takes two requests a second for a run, and the app keeps to that."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick cost. Seconds and bytes of the Functions host's process."""

    wall_s: float
    timer_s: float
    """From the trigger until the timer function has ended."""
    cpu_s: float
    peak_bytes: int
    messages: int


class Stage(Cloud):
    """One stack under measurement."""

    def __init__(self, http: aiohttp.ClientSession, stack: Stack, env: Mapping[str, str]) -> None:
        super().__init__(
            http,
            sandbox_url=stack.sandbox_url,
            host_url=stack.host_url,
            subscription=SUBSCRIPTION,
            group="rg-bench",
        )
        self.stack = stack
        self._env = env
        self._ticked_at = 0.0

    async def onboard(self, names: Iterable[str]) -> None:
        """Create these accounts and wait until all of them are healthy."""
        wanted = set(names)
        await at_once(self.put_account(name) for name in wanted)
        await until(lambda: self.all_healthy(wanted), "accounts do not become healthy", seconds=120)

    async def all_healthy(self, wanted: set[str]) -> bool | None:
        shown = (await self.status())["accounts"]
        healthy = {item["name"] for item in shown if item["healthy"]}
        return True if wanted <= healthy else None

    def log(self) -> HostLog:
        """Return the host's log from now on."""
        return HostLog(self.stack.run_dir / "host.log")

    async def tick(self) -> Tick:
        """Run one tick to its end: the timer, and every message that it sent."""
        async with Usage(self.stack.host_pid) as usage:
            timer_s, messages = await self._tick(self.log())
        self._ticked_at = time.perf_counter()
        return Tick(usage.wall_s, timer_s, usage.cpu_s, usage.peak_bytes, messages)

    async def rest(self) -> None:
        """Wait until a tick of the same runs need not hold back requests for the one before.

        Real ticks are a minute apart.
        """
        await asyncio.sleep(max(0.0, self._ticked_at + REST_S - time.perf_counter()))

    async def _tick(self, log: HostLog) -> tuple[float, int]:
        started = time.perf_counter()
        url = f"{self.host_url}/admin/functions/relay_timer?wait=1"
        async with self.http.post(url) as answer:
            answer.raise_for_status()
        timer_s = time.perf_counter() - started
        messages = log.messages_sent()
        if messages:
            await log.wait(r"relay_jobs \S+ succeeded", messages, seconds=_PATIENCE_S)
        return timer_s, messages

    async def record_tick(self) -> list[Recorded]:
        """Run one tick through the recorder and return what it sent, in order.

        The host is replaced for it and comes back afterwards.
        """
        await self.stack.stop_host()
        wandb_url = f"http://127.0.0.1:{self.stack.ports.wandb}"
        async with Recorder(sandbox_url=self.sandbox_url, wandb_url=wandb_url) as recorder:
            host = self._recording_host(recorder.environ)
            await host.start(60)
            try:
                await self._tick(HostLog(host.log_path))
            finally:
                await host.stop(grace=13)
        await self.stack.start_host()
        return recorder.requests

    def _recording_host(self, through: Mapping[str, str]) -> Process:
        ports = self.stack.ports
        environ = {**ports.environ(), **wiring.isolated(ports), **self._env, **through}
        command = [
            sys.executable,
            "-m",
            "dev.devhost",
            "--app",
            str(ROOT),
            "--port",
            str(ports.host),
        ]
        folder = self.stack.run_dir / "recording"
        folder.mkdir(exist_ok=True)

        async def is_ready() -> bool:
            return await processes.answers(f"{self.host_url}/admin/host/status")

        process = Process("host", command, {**os.environ, **environ}, ROOT, folder, is_ready)
        process.log_path.write_bytes(b"")
        return process

    async def requests(self) -> list[Json]:
        """Return the requests since the last `forget_requests`."""
        return list(await self.control("GET", "requests"))

    async def forget_requests(self) -> None:
        await self.control("DELETE", "requests")


class Lines:
    """A running module that answers line by line.

    Its imports and first connections are over when it is measured, and it shares neither memory
    nor event loop with what drives it.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def ask(self, question: object) -> dict[str, Any]:
        """Send one line and return the answer. Raises RuntimeError when the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "started with a pipe"
        assert stdout is not None, "started with a pipe"
        stdin.write(json.dumps(question).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended: {_tail(self._log)}")
        return dict(json.loads(line))


@asynccontextmanager
async def lines(module: str, *arguments: str, log: Path) -> AsyncIterator[Lines]:
    """Run `python -m MODULE ARGUMENTS`; what it says besides its answers goes to `log`."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Lines(process, log)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:]


@asynccontextmanager
async def peer(place: "Stage", *, artifacts: bool, live: bool) -> AsyncIterator[Lines]:
    """Start the process of a peer."""
    folder = place.stack.run_dir / "peer"
    folder.mkdir(exist_ok=True)
    config = {
        "wandb_url": place.stack.wandb_url,
        "key": KEY,
        "folder": str(folder),
        "artifacts": artifacts,
        "live": live,
    }
    log = place.stack.run_dir / "peer.log"
    async with lines("dev.bench.peer", json.dumps(config), log=log) as process:
        yield process


class Floor:
    """The floor's process, ready to send the recorded requests whenever it is told to."""

    def __init__(self, process: Lines, count: int) -> None:
        self._process = process
        self.count = count

    async def run(self) -> Json:
        """Send everything once; return wall_s, cpu_s. Raises RuntimeError where some failed."""
        result = await self._process.ask("go")
        if result["failed"]:
            raise RuntimeError(f"{result['failed']} of the floor's requests were refused")
        return result


@asynccontextmanager
async def floor(
    requests: list[Recorded], folder: Path, *, concurrency: int = 32
) -> AsyncIterator[Floor]:
    """Start a floor process for these requests, its connections open."""
    path = folder / "floor.json"
    path.write_text(json.dumps([asdict(item) for item in requests]))
    log = folder / "floor.log"
    async with lines("dev.bench.floor", str(path), str(concurrency), log=log) as process:
        ready = Floor(process, len(requests))
        await ready.run()
        yield ready


@asynccontextmanager
async def stage(run_dir: Path, *, env: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """Start a stack with a vault that holds a good key; `env` goes to the host."""
    settings = {"RELAY_SCHEDULE": NEVER, "DRIFT_SCHEDULE": NEVER, "ARTIFACTS": "off"}
    settings |= dict(env or {})
    stack = Stack(run_dir=run_dir, isolated=True, host_env=settings, progress=lambda _: None)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with stack, aiohttp.ClientSession(timeout=timeout) as http:
        ready = Stage(http, stack, settings)
        await ready.put_vault()
        await ready.put_secret(KEY)
        yield ready


async def at_once[T](calls: Iterable[Awaitable[T]], limit: int = _AT_ONCE) -> list[T]:
    """Await all, at most so many at a time; return the results in their order."""
    turns = asyncio.Semaphore(limit)

    async def one(call: Awaitable[T]) -> T:
        async with turns:
            return await call

    return list(await asyncio.gather(*(one(call) for call in calls)))
