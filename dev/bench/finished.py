"""Accounts whose jobs are all over, and whether what came of them is complete."""

import json
from typing import Final

from dev.bench import data
from dev.bench.stage import Stage, at_once
from dev.tools.demo.cloud import until

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
    """Make sure that the work was done. Raises RuntimeError for a run that lacks something."""
    for job in jobs:
        run = await place.run(f"{project}/{job}")
        found = {row.get("step", row["_step"]) for row in run["history"]} if run else set()
        if not run or run["state"] != "finished" or len(found) < steps:
            raise RuntimeError(f"{project}/{job} holds {len(found)} of {steps} steps")
        if artifacts and not run["artifacts_logged"]:
            raise RuntimeError(f"{project}/{job} has no artifacts")
