"""Question 2: what does a tick cost while jobs run, against the floor and against the SDKs?

Every running job has five new rows in each tick. A tick may ask for each job's events once,
write to its run once, and list each account once; nothing else.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dev.bench import data, report
from dev.bench.report import Figure, Findings, median, paired
from dev.bench.stage import Stage, at_once, floor, peer, stage
from dev.tools.demo.cloud import PROJECT

NAME: Final = "live_tick"
PER_ACCOUNT: Final = 20
NEW_ROWS: Final = 5
_HISTORY: Final = 50
_SDK_TICKS: Final = 3
_SDK_PAGE: Final = 20
"""Events that the SDKs' first tick finds on the first page."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many running jobs, each measured so often."""

    jobs: tuple[int, ...]
    repetitions: int


FULL: Final = Size((200, 1000), 7)
QUICK: Final = Size((40,), 2)


async def measure(folder: Path, size: Size) -> Findings:
    """Measure each number of jobs on a stack of its own."""
    findings = Findings()
    for jobs in size.jobs:
        async with stage(folder / f"live-{jobs}") as place:
            await _measure(place, jobs, size.repetitions, findings)
    return findings


async def _measure(place: Stage, jobs: int, repetitions: int, findings: Findings) -> None:
    accounts = [f"live-{number:03d}" for number in range(-(-jobs // PER_ACCOUNT))]
    running = [
        (accounts[number // PER_ACCOUNT], f"ftjob-live-{number:05d}") for number in range(jobs)
    ]
    await place.onboard(accounts)
    step = _HISTORY

    async def train(steps: int) -> None:
        nonlocal step
        step += steps
        await place.train(running, step)

    await train(0)
    await place.tick()
    await train(NEW_ROWS)
    recorded = await place.record_tick()
    expected = Counter({"events": jobs, "file_stream": jobs, "jobs": len(accounts)})
    ticks, floors, requests, counts = [], [], [], []
    storage = place.stack.storage_connection
    async with floor(recorded, place.stack.run_dir, storage=storage) as least:
        # The first tick of a process opens connections; it is not one of those that repeat.
        await train(NEW_ROWS)
        await place.tick()
        await least.relay()
        for _ in range(repetitions):
            known = data.live_values(step)
            await train(NEW_ROWS)
            await place.rest()
            await place.forget_requests()
            ticks.append(await place.tick())
            counts.append(_kinds(await place.requests()))
            check_requests(counts[-1], expected)
            await check_values(place, running, step)
            new = len(data.live_values(step)) - len(known)
            floors.append(await least.relay(jobs * new))
            requests.append(await least.bare())
    sdk: list[float] = []
    if jobs <= FULL.jobs[0]:
        beside, sdk = await _sdk_ticks(place, running, train)
        await check_values(place, running, step)
        findings.figures.append(
            Figure(
                f"tick_vs_sdk_{jobs}",
                f"tick, {jobs} running jobs, rate ÷ the openai and wandb SDKs'",
                paired(sdk, beside),
                20,
                at_least=True,
            )
        )
    wall = paired([tick.wall_s for tick in ticks], [one["wall_s"] for one in floors])
    cpu = paired([tick.cpu_s for tick in ticks], [one["cpu_s"] for one in floors])
    findings.figures += [
        Figure(f"tick_vs_floor_{jobs}", f"tick, {jobs} running jobs, wall ÷ floor", wall, 2.5),
        Figure(f"tick_cpu_vs_floor_{jobs}", f"tick, {jobs} running jobs, CPU ÷ floor", cpu),
        Figure(
            f"tick_requests_{jobs}",
            "requests ÷ (a read and a write a job, a list an account)",
            max(count.total() for count in counts) / expected.total(),
            1.0,
        ),
        Figure(
            f"tick_peak_mb_{jobs}",
            "peak memory of the host",
            max(tick.peak_bytes for tick in ticks) / 1e6,
            unit="MB",
        ),
    ]
    findings.raw[str(jobs)] = {
        "accounts": len(accounts),
        "ticks": [asdict(tick) for tick in ticks],
        "floor": floors,
        "bare_requests": requests,
        "tick_wall_s": median([tick.wall_s for tick in ticks]),
        "tick_cpu_s": median([tick.cpu_s for tick in ticks]),
        "floor_wall_s": median([one["wall_s"] for one in floors]),
        "vs_bare_requests": paired(
            [tick.wall_s for tick in ticks], [one["wall_s"] for one in requests]
        ),
        "floor_requests": least.count,
        "requests": [dict(count) for count in counts],
        "expected": dict(expected),
        "sdk_wall_s": sdk,
    }


async def _sdk_ticks(
    place: Stage, running: list[tuple[str, str]], train: Callable[[int], Awaitable[None]]
) -> tuple[list[float], list[float]]:
    """Do the same as people do it today, in turns with a tick; return the seconds of both.

    The first turn is for warming up.
    """
    # The SDK counts on the server's line counts: with their real age it would lose rows here.
    await place.control("PUT", "wandb/settings", {"counter_lag_s": 0})
    by_account: dict[str, list[str]] = {}
    for account, job in running:
        by_account.setdefault(account, []).append(job)
    ours, theirs = [], []
    async with peer(place, artifacts=False, live=True) as process:
        for _ in range(_SDK_TICKS + 1):
            await train(NEW_ROWS)
            await place.rest()
            ours.append((await place.tick()).wall_s)
            wall = 0.0
            for account, jobs in by_account.items():
                base_url = f"{place.endpoint(account)}/openai/v1"
                answer = await process.ask({"base_url": base_url, "jobs": jobs})
                wall += answer["wall_s"]
            theirs.append(wall)
    await check_sdk(place, running, _SDK_PAGE + _SDK_TICKS * NEW_ROWS)
    return ours[1:], theirs[1:]


def check_requests(sent: Counter[str], expected: Counter[str]) -> None:
    """Raise WorkMissingError where a tick sent fewer requests of a kind than it has to."""
    report.require("requests of a tick", dict(sent & expected), dict(expected))


async def check_values(place: Stage, running: list[tuple[str, str]], step: int) -> None:
    """Raise WorkMissingError unless every job's run holds every value up to this step, once."""
    runs = await at_once(place.run(f"{PROJECT}/{job}") for _, job in running)
    for (_, job), run in zip(running, runs, strict=True):
        report.require_values(job, data.live_values(step), run)


async def check_sdk(place: Stage, running: list[tuple[str, str]], rows: int) -> None:
    """Raise WorkMissingError unless the SDKs logged so many rows for each job."""
    runs = await at_once(place.run(f"sandbox-team/sdk/{job}") for _, job in running)
    logged = [len(run["history"]) if run else 0 for run in runs]
    report.require("rows that the SDKs logged", logged, [rows] * len(running))


def _kinds(requests: list[dict[str, Any]]) -> Counter[str]:
    """Count requests by the last part of their path."""
    kinds: Counter[str] = Counter()
    for item in requests:
        kinds[item["path"].rsplit("/", 1)[-1]] += item["count"]
    return kinds
