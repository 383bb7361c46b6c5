"""A stack to measure on: accounts that are healthy, jobs to relay, ticks on demand.

Timers never fire by themselves here; what runs is what the benchmark asks for. Everything is
driven from outside, as Azure and a person would drive it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
from azure.storage.queue import generate_account_sas

from dev.bench import data, report
from dev.bench.watch import HostLog, Recorded, measured, recording
from dev.tools.demo.cloud import KEY, Cloud, Json, until
from dev.tools.lines import Lines, lines
from dev.tools.local_stack import Stack

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

    def __init__(self, http: aiohttp.ClientSession, stack: Stack) -> None:
        super().__init__(
            http,
            sandbox_url=stack.sandbox_url,
            host_url=stack.host_url,
            group="rg-bench",
        )
        self.stack = stack
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

    async def train(self, running: Iterable[tuple[str, str]], last: int) -> None:
        """Have Azure show these running jobs, (account, id), with their events up to step `last`."""
        await at_once(
            self.put_job(
                account,
                job,
                job=data.job_object(job, "running"),
                events=data.metric_events(job, last),
            )
            for account, job in running
        )

    def log(self) -> HostLog:
        """Return the host's log from now on."""
        return HostLog(self.stack.run_dir / "host.log")

    async def tick(self) -> Tick:
        """Run one tick to its end: the timer, and every message that it sent."""
        async with measured(self.stack.host_pid) as usage:
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
            await log.wait(r"(?:relay|backfill)_jobs \S+ succeeded", messages, seconds=_PATIENCE_S)
        return timer_s, messages

    async def record_tick(self) -> list[Recorded]:
        """Run one tick through the recorder and return what it sent, in order.

        The host is replaced for it and comes back afterwards.
        """
        await self.stack.stop_host()
        wandb_url = f"http://127.0.0.1:{self.stack.ports.wandb}"
        async with recording(sandbox_url=self.sandbox_url, wandb_url=wandb_url) as recorder:
            port = self.stack.ports.host
            host = self.stack.new_host("recording", port, env=recorder.environ)
            await host.start(60)
            try:
                await self._tick(HostLog(host.log_path))
            finally:
                await host.stop(grace=13)
        await self.stack.start_host()
        return recorder.requests


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
    """The floor's process, ready to do a recorded tick's work whenever it is asked to."""

    def __init__(self, process: Lines, count: int) -> None:
        self._process = process
        self.count = count
        """Requests of the tick."""

    async def bare(self) -> Json:
        """Send the requests and nothing else; return wall_s and cpu_s."""
        return await self._ask("bare", anew=False)

    async def relay(self, values: int | None = None, *, anew: bool = False) -> Json:
        """Relay as little as a relay can; return wall_s and cpu_s.

        `anew`: nothing is known of the jobs. Raises WorkMissingError unless the rows made have
        so many values.
        """
        result = await self._ask("relay", anew=anew)
        if values is not None:
            report.require("values in the floor's rows", result["values"], values)
        return result

    async def _ask(self, how: str, *, anew: bool) -> Json:
        result = await self._process.ask({"how": how, "anew": anew})
        report.require("requests of the floor that were refused", result["failed"], 0)
        return result


@asynccontextmanager
async def floor(
    requests: list[Recorded], folder: Path, *, storage: str | None = None
) -> AsyncIterator[Floor]:
    """Start a floor process for these requests, its connections open.

    It can relay where it is given the connection string of a `storage`.
    """
    config: Json = {"requests": [asdict(item) for item in requests]}
    if storage is not None:
        config |= _signed(storage)
    path = folder / "floor.json"
    path.write_text(json.dumps(config))
    async with lines("dev.bench.floor", str(path), log=folder / "floor.log") as process:
        ready = Floor(process, len(requests))
        await ready.bare()
        if storage is not None:
            await ready.relay()
        yield ready


def _signed(storage: str) -> dict[str, str]:
    """Return the addresses of both services; a signature costs nothing with each request."""
    parts = dict(part.split("=", 1) for part in storage.split(";") if part)
    mark = generate_account_sas(
        *(parts["AccountName"], parts["AccountKey"], "sco", "rwdlacup"),
        expiry=datetime.now(UTC) + timedelta(days=1),
        services="qt",
    )
    return {
        "tables": f"{parts['TableEndpoint']}?{mark}",
        "queue": f"{parts['QueueEndpoint']}/floor?{mark}",
    }


@asynccontextmanager
async def stage(
    run_dir: Path, *, env: Mapping[str, str] | None = None, log_storage: bool = False
) -> AsyncIterator[Stage]:
    """Start a stack with a vault that holds a good key; `env` goes to the host."""
    settings = {"RELAY_SCHEDULE": NEVER, "DRIFT_SCHEDULE": NEVER, "ARTIFACTS": "off"}
    settings |= dict(env or {})
    stack = Stack(
        run_dir=run_dir,
        isolated=True,
        host_env=settings,
        log_storage=log_storage,
        progress=lambda _: None,
    )
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with stack, aiohttp.ClientSession(timeout=timeout) as http:
        ready = Stage(http, stack)
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
