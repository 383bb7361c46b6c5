"""Question 4: does a job's past cost anything?

A tick of a job with 100,000 relayed steps against one with 100, each with five new rows, each
sent to the relay's queue function by itself. And memory: a finished job whose result file holds
a million values against one with a small file.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev.bench import data, report
from dev.bench.report import Figure, Findings, median, paired
from dev.bench.stage import REST_S, Stage, stage
from dev.bench.watch import Usage, measured
from dev.tools.demo.cloud import PROJECT
from dev.tools.demo.values import Published, published

NAME: Final = "growth"
_NEW_ROWS: Final = 5
_ACCOUNT: Final = "growth"
_WARM: Final = 5
_VALUES_PER_10: Final = 22
"""Ten steps of `data.result_csv` have twenty training values and two of validation."""


@dataclass(frozen=True, slots=True)
class Size:
    """Relayed steps of the two jobs, measurements, and values of the two result files."""

    long: int
    short: int
    repetitions: int
    large_values: int
    small_values: int


FULL: Final = Size(100_000, 100, 20, 1_000_000, 2_200)
QUICK: Final = Size(1_000, 100, 3, 22_000, 2_200)


async def measure(folder: Path, size: Size) -> Findings:
    """Measure both, on one stack; the host is new for the memory."""
    async with stage(folder / "growth") as place:
        await place.onboard([_ACCOUNT])
        findings = await _ticks(place, size)
        await place.stack.restart_host()
        await _memory(place, size, findings)
        return findings


async def _ticks(place: Stage, size: Size) -> Findings:
    steps = {"ftjob-long": size.long, "ftjob-short": size.short}
    # Made once: a hundred thousand events take longer to make than to serve.
    events = {job: data.metric_events(job, last) for job, last in steps.items()}
    costs: dict[str, list[Usage]] = {job: [] for job in steps}
    other = data.job_object("ftjob-other", "running")
    await place.put_job(_ACCOUNT, "ftjob-other", job=other, events=data.metric_events("x", 20))
    for turn in range(-2, size.repetitions):
        for job in steps:
            await place.put_job(
                _ACCOUNT, job, job=data.job_object(job, "running"), events=events[job]
            )
            last = steps[job] + _NEW_ROWS
            events[job] = data.metric_events(job, last, steps[job] + 1) + events[job]
            steps[job] = last
        # W&B takes two requests a second for a run: a pass that comes sooner would wait.
        await asyncio.sleep(REST_S)
        # Telling the sandbox of so many events leaves nothing of the host in the processor's
        # caches: another job's passes bring it back, and each job comes first as often.
        for _ in range(_WARM):
            await relay(place, other)
        for job in sorted(steps, reverse=turn % 2 == 0):
            usage = await relay(place, data.job_object(job, "running"))
            await check_step(place, job, steps[job] - _NEW_ROWS)
            if turn >= 0:  # the first brings the past, the second is warm
                costs[job].append(usage)
    for job, last in steps.items():
        await check_run(place, job, data.live_values(last - _NEW_ROWS))
    cpu = {job: [usage.cpu_s for usage in one] for job, one in costs.items()}
    wall = {job: [usage.wall_s for usage in one] for job, one in costs.items()}
    return Findings(
        [
            Figure(
                "growth",
                f"tick of a job with {size.long:,} steps ÷ one with {size.short}, CPU",
                paired(cpu["ftjob-long"], cpu["ftjob-short"]),
                1.2,
            ),
            Figure(
                "growth_wall",
                "the same, wall",
                paired(wall["ftjob-long"], wall["ftjob-short"]),
            ),
        ],
        {"cpu_s": cpu, "wall_s": wall},
    )


async def _memory(place: Stage, size: Size, findings: Findings) -> None:
    peaks: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for job, values in (("ftjob-small", size.small_values), ("ftjob-large", size.large_values)):
        steps = values // _VALUES_PER_10 * 10
        finished = data.job_object(job, "succeeded", result_files=[f"file-{job}"])
        content = data.result_csv(steps)
        await place.put_job(_ACCOUNT, job, job=finished, events=[], result_csv=content)
        usage = await relay(place, finished)
        await check_run(place, job, published(result_file=content.encode()))
        peaks[job], seconds[job] = usage.peak_bytes, usage.wall_s
    findings.figures.append(
        Figure(
            "result_file_memory",
            f"peak memory with a result file of {size.large_values:,} values ÷ a small one",
            peaks["ftjob-large"] / peaks["ftjob-small"],
            1.5,
        )
    )
    findings.raw["peak_bytes"] = peaks
    findings.raw["result_file_s"] = seconds
    findings.raw["medians_cpu_s"] = {job: median(one) for job, one in findings.raw["cpu_s"].items()}


async def check_step(place: Stage, job: str, step: int) -> None:
    """Raise WorkMissingError unless the app says that the job was relayed to this step."""
    shown = await place.shown_job(job)
    report.require(f"{job}: last step", shown and shown["last_step"], step)


async def check_run(place: Stage, job: str, values: Published) -> None:
    """Raise WorkMissingError unless the job's run holds exactly these values."""
    report.require_values(job, values, await place.run(f"{PROJECT}/{job}"))


async def relay(place: Stage, job: data.Json) -> Usage:
    """Let the queue function relay one job; return what that cost the host."""
    message: dict[str, Any] = {
        "account": place.account_id(_ACCOUNT),
        "jobs": [job],
        "sent_at": time.time(),
        "trigger": "bench",
    }
    url = f"{place.host_url}/admin/functions/relay_jobs?wait=1"
    async with (
        measured(place.stack.host_pid) as usage,
        place.http.post(url, json={"input": json.dumps(message)}) as answer,
    ):
        result = await answer.json()
    if answer.status != 200:
        raise RuntimeError(f"relay_jobs: {result}")
    return usage
