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
from dev.bench.stage import PROJECT, Lines, Stage, Tick, at_once, floor, peer, stage
from dev.tools.demo.cloud import until

NAME: Final = "backfill"
_PEER_PROJECT: Final = "sandbox-team/peer"


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
    ticks, floors, peers = [], [], []
    async with (
        floor(recorded, place.stack.run_dir) as bare,
        _peer(place, artifacts=False) as theirs,
    ):
        for turn in range(size.repetitions):
            account = f"turn-{turn}"
            jobs = await open_account(place, account, size.jobs, size.steps)
            ticks.append(await place.tick())
            floors.append(await bare.run())
            peers.append(await _sync(theirs, place, account, jobs[: size.peer_jobs]))
            await check_runs(place, PROJECT, jobs, size.steps)
            await check_runs(place, _PEER_PROJECT, jobs[: size.peer_jobs], size.steps)
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
        "floor_requests": bare.count,
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
            tick, seconds = await _with_artifacts(place)
            theirs_now = await _sync(theirs, place, account, jobs[: size.artifact_peer_jobs])
            await check_runs(place, PROJECT, jobs, size.steps, artifacts=True)
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


async def _with_artifacts(place: Stage) -> tuple[Tick, float]:
    """Run a tick and wait until the artifacts that it asked for are logged."""
    log = place.log()
    started = time.perf_counter()
    tick = await place.tick()
    await log.wait(r"job_artifacts \S+ succeeded", tick.messages, seconds=300)
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
    csv = data.result_csv(steps)
    await at_once(
        place.put_job(
            account,
            job,
            job=data.job_object(job, "succeeded"),
            events=data.metric_events(job, steps),
            checkpoints=data.checkpoints(job, steps),
            result_csv=csv,
            files=_FILES,
        )
        for job in jobs
    )
    return jobs


async def close_account(place: Stage, account: str) -> None:
    """Take an account out of the relay, so that no later tick looks at its jobs again."""
    await place.put_account(account, tags={"wandb-integration": "off"})

    async def look() -> bool | None:
        shown = await place.shown_account(account)
        return True if shown and not shown["in_scope"] else None

    await until(look, f"{account} is still looked after", seconds=60)


async def check_runs(
    place: Stage, project: str, jobs: list[str], steps: int, *, artifacts: bool = False
) -> None:
    """Raise WorkMissingError for a run that lacks a step, a value, its end or its artifacts."""
    for job in jobs:
        run = await place.run(f"{project}/{job}") or {"state": "missing", "history": []}
        found = {row.get("step", row["_step"]) for row in run["history"]}
        report.require(f"{project}/{job}: state", run["state"], "finished")
        report.require(f"{project}/{job}: steps", min(len(found), steps), steps)
        if project == PROJECT:  # the peer names what it reads in the result file otherwise
            values = data.values_in(run["history"])
            report.require(f"{project}/{job}: values", values, data.values_published(steps))
        if artifacts:
            report.require(f"{project}/{job}: artifacts", bool(run["artifacts_logged"]), True)
