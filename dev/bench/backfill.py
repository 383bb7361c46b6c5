"""Question 1: how fast do finished jobs get into W&B, against the peer and against the floor?

Ours through the local host: one tick lists the jobs and relays each whole (events, checkpoints,
result file). The peer syncs jobs of the same account, one after the other, as its API does; its
rate does not depend on how many, so it is given fewer. Rates are training steps a second.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dev.bench import data, report
from dev.bench.report import Figure, Findings, median, paired
from dev.bench.stage import Stage, Tick, at_once, floor, peer, stage
from dev.tools.demo.cloud import PROJECT, until
from dev.tools.lines import Lines

NAME: Final = "backfill"
_PEER_PROJECT: Final = "sandbox-team/peer"
ARTIFACTS: Final = 3
"""Of each job: result file, checkpoints, model; the data sets are those of the first job."""


@dataclass(frozen=True, slots=True)
class Size:
    """Finished jobs, steps of each, jobs for the peer, and measurements; twice, the second time
    with artifacts."""

    jobs: int
    steps: int
    peer_jobs: int
    repetitions: int
    artifact_jobs: int
    artifact_peer_jobs: int
    artifact_repetitions: int


FULL: Final = Size(50, 1000, 5, 5, 50, 5, 2)
QUICK: Final = Size(4, 100, 1, 1, 2, 1, 1)


async def measure(folder: Path, size: Size) -> Findings:
    """Measure without artifacts, then with them on both sides."""
    findings = Findings()
    async with stage(folder / "backfill") as place:
        await _metrics(place, size, findings)
    async with stage(folder / "backfill-artifacts", env={"ARTIFACTS": "on"}) as place:
        await _artifacts(place, size, findings)
    return findings


async def _metrics(place: Stage, size: Size, findings: Findings) -> None:
    await open_account(place, "warm", 2, size.steps)
    await place.tick()
    await close_account(place, "warm")
    jobs = await open_account(place, "recorded", size.jobs, size.steps)
    recorded = await place.record_tick()
    await close_account(place, "recorded")
    # A new process opens its connections with the first account.
    await open_account(place, "warm-again", 2, size.steps)
    await place.tick()
    await close_account(place, "warm-again")
    ticks, floors, requests, peers = [], [], [], []
    values = size.jobs * len(data.all_values(size.steps))
    storage = place.stack.storage_connection
    async with (
        floor(recorded, place.stack.run_dir, storage=storage) as least,
        _peer(place, artifacts=False) as theirs,
    ):
        for turn in range(size.repetitions):
            account = f"turn-{turn}"
            jobs = await open_account(place, account, size.jobs, size.steps)
            ticks.append(await place.tick())
            floors.append(await least.relay(values, anew=True))
            requests.append(await least.bare())
            peers.append(await _sync(theirs, place, account, jobs[: size.peer_jobs]))
            await check_runs(place, jobs, size.steps)
            await check_peer(place, jobs[: size.peer_jobs], size.steps)
            await close_account(place, account)
    ours = [tick.wall_s / size.jobs for tick in ticks]
    findings.figures += [
        Figure(
            "backfill_vs_peer",
            f"{size.jobs} finished jobs × {size.steps} steps: rate ÷ the peer's",
            paired([one["wall_s"] / size.peer_jobs for one in peers], ours),
            20,
            at_least=True,
        ),
        Figure(
            "backfill_vs_floor",
            "the same, wall ÷ floor",
            paired([tick.wall_s for tick in ticks], [one["wall_s"] for one in floors]),
            2.5,
        ),
        Figure(
            "backfill_cpu_vs_floor",
            "the same, CPU ÷ floor",
            paired([tick.cpu_s for tick in ticks], [one["cpu_s"] for one in floors]),
        ),
        Figure(
            "backfill_steps_per_s",
            "rate",
            size.steps / median(ours),
            unit="steps/s",
        ),
    ]
    findings.raw["metrics"] = {
        "ticks": [asdict(tick) for tick in ticks],
        "floor": floors,
        "bare_requests": requests,
        "vs_bare_requests": paired(
            [tick.wall_s for tick in ticks], [one["wall_s"] for one in requests]
        ),
        "floor_requests": least.count,
        "peer": peers,
        "peer_jobs": size.peer_jobs,
    }


async def _artifacts(place: Stage, size: Size, findings: Findings) -> None:
    ours, peers = [], []
    async with _peer(place, artifacts=True) as theirs:
        for turn in range(-1, size.artifact_repetitions):
            account = f"turn-{turn + 1}"
            count = size.artifact_jobs if turn >= 0 else 1
            jobs = await open_account(place, account, count, size.steps)
            tick, seconds = await _with_artifacts(place, jobs)
            theirs_now = await _sync(theirs, place, account, jobs[: size.artifact_peer_jobs])
            await check_runs(place, jobs, size.steps)
            await check_peer(place, jobs[: size.artifact_peer_jobs], size.steps)
            await close_account(place, account)
            if turn >= 0:
                ours.append(seconds / count)
                peers.append(theirs_now["wall_s"] / size.artifact_peer_jobs)
                findings.raw.setdefault("artifacts", []).append(
                    {"tick": asdict(tick), "seconds": seconds, "jobs": count, "peer": theirs_now}
                )
    findings.figures.append(
        Figure(
            "backfill_with_artifacts_vs_peer",
            f"{size.artifact_jobs} jobs with artifacts on both sides: rate ÷ the peer's",
            paired(peers, ours),
            2,
            at_least=True,
        )
    )


async def _with_artifacts(place: Stage, jobs: list[str]) -> tuple[Tick, float]:
    """Run a tick and wait until the artifacts that it asked for are logged."""
    started = time.perf_counter()
    tick = await place.tick()
    pending = list(jobs)

    async def look() -> bool | None:
        # One run at a time: its rows come along.
        while pending and await has_artifacts(place, pending[-1]):
            pending.pop()
        return None if pending else True

    await until(look, lambda: f"artifacts of {len(pending)} jobs are missing", seconds=300)
    return tick, time.perf_counter() - started


@asynccontextmanager
async def _peer(place: Stage, *, artifacts: bool) -> AsyncIterator[Lines]:
    """Start the peer's process and let it sync one small job, which opens its connections."""
    async with peer(place, artifacts=artifacts, live=False) as process:
        jobs = await open_account(place, "peer-warm", 1, 10)
        await close_account(place, "peer-warm")
        await _sync(process, place, "peer-warm", jobs)
        yield process


async def _sync(process: Lines, place: Stage, account: str, jobs: list[str]) -> dict[str, Any]:
    base_url = f"{place.endpoint(account)}/openai/v1"
    return await process.ask({"base_url": base_url, "jobs": jobs})


_LINE: Final = json.dumps(
    {
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "Paris"},
        ]
    }
)
_FILES: Final = {
    name: {"filename": f"{name}.jsonl", "content": f"{_LINE}\n" * 50}
    for name in ("file-training", "file-validation")
}


async def open_account(place: Stage, account: str, count: int, steps: int) -> list[str]:
    """Create an account with finished jobs that nobody has looked at yet; return their ids."""
    await place.onboard([account])
    jobs = [f"ftjob-{account}-{number:03d}" for number in range(count)]
    await at_once(put_finished(place, account, job, steps) for job in jobs)
    return jobs


async def put_finished(place: Stage, account: str, job: str, steps: int) -> None:
    """Have Azure show a job that is long over."""
    await place.put_job(
        account,
        job,
        job=data.job_object(job, "succeeded", result_files=[f"file-{job}"]),
        events=data.metric_events(job, steps),
        checkpoints=data.checkpoints(job, steps),
        result_csv=data.result_csv(steps),
        files=_FILES,
    )


async def close_account(place: Stage, account: str) -> None:
    """Take an account out of the relay, so that no later tick looks at its jobs again."""
    await place.put_account(account, tags={"wandb-integration": "off"})

    async def look() -> bool | None:
        shown = await place.shown_account(account)
        return True if shown and not shown["in_scope"] else None

    await until(look, f"{account} is still looked after", seconds=60)


async def check_runs(place: Stage, jobs: list[str], steps: int) -> None:
    """Raise WorkMissingError for a run that lacks its end, or does not hold each value once."""
    for job in jobs:
        run = await place.run(f"{PROJECT}/{job}")
        report.require(f"{job}: state", run and run["state"], "finished")
        report.require_values(job, data.all_values(steps), run)


async def check_peer(place: Stage, jobs: list[str], steps: int) -> None:
    """Raise WorkMissingError for a run of the peer that lacks its end or a line of the file."""
    for job in jobs:
        run = await place.run(f"{_PEER_PROJECT}/{job}")
        report.require(f"the peer's {job}: state", run and run["state"], "finished")
        # It names metrics as the file does, and counts lines in W&B's own step.
        found = {row["_step"] for row in run["history"]} if run else set()
        report.require(f"the peer's {job}: lines", len(found), steps)


async def has_artifacts(place: Stage, job: str) -> bool:
    """Whether every artifact of a job is logged."""
    run = await place.run(f"{PROJECT}/{job}")
    return run is not None and len(run["artifacts_logged"]) >= ARTIFACTS
