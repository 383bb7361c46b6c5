"""Command line of the benchmarks: `python -m dev.bench --help`.

Measures each question on a stack of its own and writes .bench/results.json. Work that was not all
done is an error; figures are not judged: the exit code is 0 whatever they are.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from dev.bench import (
    backfill,
    cold_start,
    cost,
    growth,
    idle_tick,
    lag,
    latency,
    live_tick,
    onboarding,
    report,
)
from dev.bench.report import Findings

QUESTIONS: Final[dict[str, Any]] = {
    module.NAME: module
    for module in (
        backfill,
        live_tick,
        idle_tick,
        growth,
        latency,
        cold_start,
        onboarding,
        lag,
        cost,
    )
}
_FOLDER: Final = Path(".bench")


async def run(names: list[str], *, quick: bool, folder: Path, console: Console) -> None:
    """Measure these questions and write what came of them."""
    answers: dict[str, Findings] = {}
    # Figures of an earlier run must not stand for a question that ends with an error.
    (folder / "results.json").unlink(missing_ok=True)
    for name in names:
        module = QUESTIONS[name]
        console.print(f"{name}: {module.__doc__.splitlines()[0]}")
        started = time.monotonic()
        answers[name] = await module.measure(folder, module.QUICK if quick else module.FULL)
        answers[name].raw["took_s"] = round(time.monotonic() - started, 1)
        # Written after each question: a long run that is broken off keeps what it has.
        report.write(folder / "results.json", answers, quick=quick)
    report.show(list(answers.values()), console)
    console.print(f"raw figures: {folder / 'results.json'}")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m dev.bench", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=QUESTIONS, metavar="NAME", help=", ".join(QUESTIONS)
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes: shows that all of it works, proves nothing",
    )
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="default: %(default)s")
    options = parser.parse_args()
    names = options.only or list(QUESTIONS)
    asyncio.run(run(names, quick=options.quick, folder=options.folder, console=Console()))


if __name__ == "__main__":
    main()
