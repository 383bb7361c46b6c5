"""Question 8: how late is a running job's value while a thousand old jobs are brought over?

Two jobs train, one of them in the account of the old jobs, and publish a step every second. Then
the old jobs appear, and Azure answers for each as slowly as it may. The timer fires by itself, on
the default schedule: up to a minute of each lag is its period.
"""

import asyncio
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from dev.bench import data, report
from dev.bench.backfill import check_runs, put_finished
from dev.bench.report import Figure, Findings, percentile
from dev.bench.stage import Stage, at_once, stage
from dev.tools.demo.cloud import PROJECT

NAME: Final = "lag"
OLD: Final = "lag-old"
LIVE: Final = ((OLD, "ftjob-live-beside"), ("lag-other", "ftjob-live-elsewhere"))
_EVERY_S: Final = 1.0
_POLL_S: Final = 0.2
_PATIENCE_S: Final = 300.0
_LOG_S: Final = 30.0
_MOST_PER_MESSAGE: Final = 20


@dataclass(frozen=True, slots=True)
class Size:
    """Old jobs, steps of each, the timer's schedule, and seconds of each answer about them."""

    jobs: int
    steps: int
    schedule: str
    answer_s: float


FULL: Final = Size(1000, 10, "0 * * * * *", 0.5)
QUICK: Final = Size(40, 10, "*/2 * * * * *", 0.1)


@dataclass(slots=True)
class Watched:
    """One running job: when each of its steps was published and seen in its run (seconds)."""

    account: str
    job: str
    published: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)

    @property
    def lags(self) -> list[float]:
        return [b - a for a, b in zip(self.published, self.seen, strict=True)]


async def measure(folder: Path, size: Size) -> Findings:
    """Publish until the last old job is over, then wait for the last value."""
    async with stage(folder / "lag", env={"RELAY_SCHEDULE": size.schedule}) as place:
        return await _measure(place, size)


async def _measure(place: Stage, size: Size) -> Findings:
    watched = [Watched(account, job) for account, job in LIVE]
    old = [f"ftjob-old-{number:04d}" for number in range(size.jobs)]
    await place.onboard({account for account, _ in LIVE})
    slow = {"service": "openai", "path_contains": "ftjob-old", "probability": 1.0}
    await place.control("POST", "faults", slow | {"action": {"delay_s": size.answer_s}})
    log = place.log()
    over = asyncio.Event()
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as tasks:
        for one in watched:
            tasks.create_task(train(place, one, over))
            tasks.create_task(watch(place, one, over))
        began = time.monotonic()
        await at_once(put_finished(place, OLD, job, size.steps) for job in old)
        put_s = time.monotonic() - began
        pending = list(old)
        while pending:
            run = await place.run(f"{PROJECT}/{pending[-1]}")
            if run and run["state"] == "finished":
                pending.pop()
            else:
                await asyncio.sleep(_POLL_S)
        backfill_s = time.monotonic() - began
        over.set()
    # The old jobs came by the backfill's queue, else the log lacks its messages.
    messages = -(-len(old) // _MOST_PER_MESSAGE)
    await log.wait(r"backfill_jobs \S+ succeeded", messages, seconds=_LOG_S)
    await check(place, old, size.steps, watched)
    lags = [lag for one in watched for lag in one.lags]
    return Findings(
        [
            Figure(
                "lag_while_backfilling_s",
                f"value published → in its run while {size.jobs:,} old jobs come, the latest",
                max(lags),
                120,
                unit="s",
            ),
            Figure(
                "lag_while_backfilling_p95_s", "95th percentile", percentile(lags, 0.95), unit="s"
            ),
            Figure("lag_while_backfilling_p50_s", "median", percentile(lags, 0.5), unit="s"),
            Figure(
                "backfill_of_old_jobs_s", "until the last old job is over", backfill_s, unit="s"
            ),
        ],
        {
            "size": asdict(size),
            "put_s": put_s,
            "lags_s": {one.job: one.lags for one in watched},
        },
    )


async def train(place: Stage, one: Watched, over: asyncio.Event) -> None:
    """Publish a step every second until the backfill is over."""
    while not over.is_set():
        step = len(one.published) + 1
        one.published.append(time.monotonic())
        await place.train([(one.account, one.job)], step)
        await asyncio.sleep(_EVERY_S)


async def watch(place: Stage, one: Watched, over: asyncio.Event) -> None:
    """Note when each step is first seen in the run, until all are there."""
    while not over.is_set() or len(one.seen) < len(one.published):
        run = await place.run(f"{PROJECT}/{one.job}")
        now = time.monotonic()
        last = max((row["step"] for row in run["history"]), default=0) if run else 0
        one.seen += [now] * (last - len(one.seen))
        await asyncio.sleep(_POLL_S)


async def check(place: Stage, old: list[str], steps: int, watched: list[Watched]) -> None:
    """Raise WorkMissingError unless every step was seen and every run is whole."""
    for one in watched:
        steps_published = len(one.published)
        report.require(f"{one.job}: steps seen", len(one.seen), steps_published)
        run = await place.run(f"{PROJECT}/{one.job}")
        report.require_values(one.job, data.live_values(steps_published), run)
    await check_runs(place, old, steps)
