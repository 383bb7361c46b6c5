"""Question 5: how long from an event's publication until its value can be read in W&B?

Apart from the timer's period: the tick is started the moment the event is there. A hundred jobs
run and all of them have new rows; the one that is watched changes from tick to tick.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.bench.live_tick import check_values
from dev.bench.report import Figure, Findings, percentile
from dev.bench.stage import Stage, stage
from dev.tools.demo.cloud import PROJECT

NAME: Final = "latency"
_PER_ACCOUNT: Final = 20
_POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Size:
    """Running jobs, and how many ticks are watched."""

    jobs: int
    repetitions: int


FULL: Final = Size(100, 40)
QUICK: Final = Size(5, 3)


async def measure(folder: Path, size: Size) -> Findings:
    """Watch one job a tick from its event to its row."""
    async with stage(folder / "latency") as place:
        return await _measure(place, size)


async def _measure(place: Stage, size: Size) -> Findings:
    running = [
        (f"late-{number // _PER_ACCOUNT:03d}", f"ftjob-late-{number:04d}")
        for number in range(size.jobs)
    ]
    await place.onboard({account for account, _ in running})

    step, seconds = 20, []
    await place.train(running, step)
    await place.tick()
    for turn in range(size.repetitions):
        step += 1
        watched = running[turn * 7 % len(running)]
        await place.train((other for other in running if other != watched), step)
        await place.rest()
        await place.train([watched], step)
        published = time.perf_counter()
        tick = asyncio.create_task(place.tick())
        await _readable(place, watched[1], step)
        seconds.append(time.perf_counter() - published)
        await tick
    await check_values(place, running, step)
    return Findings(
        [
            Figure(
                "latency_p50_s",
                f"event to W&B, {size.jobs} running jobs, median",
                percentile(seconds, 0.5),
                unit="s",
            ),
            Figure("latency_p95_s", "95th percentile", percentile(seconds, 0.95), unit="s"),
        ],
        {"seconds": seconds},
    )


async def _readable(place: Stage, job: str, step: int) -> None:
    async with asyncio.timeout(60):
        while True:
            run = await place.run(f"{PROJECT}/{job}")
            if run and run["history"] and run["history"][-1]["step"] >= step:
                return
            await asyncio.sleep(_POLL_S)
