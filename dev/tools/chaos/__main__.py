"""`python -m dev.tools.chaos --runs N [--seed S]`: random faults, then the truth is compared.

Exit codes: 0 every run is as it must be, 1 at least one is not, 2 the stack did not come up.
"""

import argparse
import asyncio
import json
import secrets
import sys
import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dev.tools.chaos.judge import Verdict, judge
from dev.tools.chaos.plan import make_plan
from dev.tools.chaos.play import play
from dev.tools.chaos.report import Totals
from dev.tools.chaos.stage import Stage, open_stage
from dev.tools.local_stack import ROOT, say
from dev.tools.processes import StackError

DEFAULT_BATCH = 40
SHORT_LEASE_S = 3.0
LONG_LEASE_S = 600.0
LONG_LEASE_SHARE = 5
"""One run in so many is played with the lease of Azure, longer than the run."""
RUNS_PER_STACK = 250
"""Every pass looks at the accounts of all runs before it: a new stack now and then has none."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.tools.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many runs (default: 100)")
    parser.add_argument("--seed", type=int, help="of the first run; the others count up from it")
    parser.add_argument(
        "--batch", type=int, default=DEFAULT_BATCH, help="runs played side by side (default: 40)"
    )
    parser.add_argument(
        "--lease",
        type=float,
        help="seconds after which the messages of a killed host come back (default: three, and ten"
        " minutes as in Azure for one run in five)",
    )
    parser.add_argument("--dir", type=Path, default=ROOT / ".chaos", help="for logs and results")
    options = parser.parse_args(arguments)
    if options.runs < 1 or not 1 <= options.batch <= 90:
        parser.error("--runs must be at least 1, --batch from 1 to 90")
    seed = secrets.randbelow(10**8) if options.seed is None else options.seed
    try:
        totals = asyncio.run(chaos(options.runs, seed, options.batch, options.dir, options.lease))
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if totals.failed == 0 else 1


async def chaos(
    runs: int, seed: int, batch: int, folder: Path, lease_s: float | None = None
) -> Totals:
    """Play and judge so many runs; print progress and a summary. Raises StackError."""
    say(f"chaos: {runs} runs, --seed {seed}")
    totals, began = Totals(seed), time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )
    long = runs // LONG_LEASE_SHARE if lease_s is None else 0
    with bar:
        task = bar.add_task("runs", total=runs)

        async def campaign(first: int, end: int, lease: float) -> None:
            for part in range(first, end, RUNS_PER_STACK):
                last = min(part + RUNS_PER_STACK, end)
                async with open_stage(
                    folder / str(part), slots=min(batch, last - part), seed=part, lease_s=lease
                ) as stage:
                    for start in range(part, last, batch):
                        seeds = range(start, min(start + batch, last))
                        await _play_batch(stage, seeds, totals)
                        bar.update(task, advance=len(seeds))
                    totals.host_starts += stage.stack.host_starts

        # Side by side: what a crash left behind with a long lease is waited for.
        await asyncio.gather(
            campaign(seed, seed + runs - long, lease_s or SHORT_LEASE_S),
            campaign(seed + runs - long, seed + runs, LONG_LEASE_S),
        )
    totals.seconds = time.monotonic() - began
    (folder / "results.json").write_text(json.dumps(totals.as_json(), indent=1) + "\n")
    for line in totals.lines():
        say(line)
    if totals.failed:
        say(f"logs: {folder}; again: python -m dev.tools.chaos --runs {runs} --seed {seed}")
    return totals


async def _play_batch(stage: Stage, seeds: range, totals: Totals) -> None:
    plans = [make_plan(seed, slot, time.time()) for slot, seed in enumerate(seeds)]
    played = await play(stage, plans, seeds[0])
    verdicts = await judge(stage, plans, played)
    totals.add(plans, played, verdicts)
    _tell(verdicts, played.weather, stage.lease_s)


def _tell(verdicts: list[Verdict], weather: list[str], lease_s: float) -> None:
    bad = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in bad:
        say(f"run {verdict.seed} (batch of {verdicts[0].seed}): " + "; ".join(verdict.wrong))
    if bad:
        say("weather: " + ", ".join(weather))
        again = f"--runs {len(verdicts)} --seed {verdicts[0].seed} --lease {lease_s:g}"
        say(f"this batch again: python -m dev.tools.chaos {again}")


if __name__ == "__main__":
    sys.exit(main())
