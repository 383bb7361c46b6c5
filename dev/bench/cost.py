"""Question 9: what do the Azure resources cost a month, beside the ways people do it today?

CPU and calls to storage are measured; prices and what a real month adds to them are those of
`infra/commands/cost.py`. Every running job has a value for each tick, all month.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from dev.bench import report
from dev.bench.live_tick import NEW_ROWS, check_values
from dev.bench.report import Figure, Findings, median
from dev.bench.stage import Stage, stage
from dev.bench.watch import HostLog, measured
from finetune_wandb.model.work import QUEUES
from infra.commands.cost import HOURS, Assumptions, estimate

NAME: Final = "cost"
_HISTORY: Final = 50
_PATIENCE_S: Final = 300.0
_TABLE_CALL: Final = rf'"[A-Z]+ /devstoreaccount1/(?!(?:{"|".join(QUEUES)})[-/? ])'
"""A line of Azurite's log that is about no queue."""

# Assumed list prices of November 2026, in USD, as remembered and not fetched.
_CONTAINER_HOUR: Final = 0.0405 + 1.5 * 0.00445
"""Azure Container Instances: 1 vCPU and 1.5 GB, the least that the wandb SDK is at ease in."""
_ML_NODE_HOUR: Final = 0.073
"""Azure Machine Learning compute, Standard_DS1_v2, the smallest node."""


@dataclass(frozen=True, slots=True)
class Size:
    """Accounts and running jobs, one an account; how often each is measured."""

    sizes: tuple[tuple[int, int], ...]
    repetitions: int


FULL: Final = Size(((10, 5), (200, 100)), 5)
QUICK: Final = Size(((4, 2),), 2)


@dataclass(frozen=True, slots=True)
class Work:
    """What one piece of work took: CPU seconds of the host, calls to table storage."""

    cpu_s: float
    table_calls: float


async def measure(folder: Path, size: Size) -> Findings:
    """Measure each size on a stack of its own."""
    findings = Findings()
    for accounts, jobs in size.sizes:
        async with stage(folder / f"cost-{accounts}", log_storage=True) as place:
            await _measure(place, accounts, jobs, size.repetitions, findings)
    return findings


async def _measure(
    place: Stage, accounts: int, jobs: int, repetitions: int, findings: Findings
) -> None:
    names = [f"cost-{number:03d}" for number in range(accounts)]
    running = [(account, f"ftjob-{account}") for account in names[:jobs]]
    await place.onboard(names)
    step = _HISTORY

    async def tick() -> None:
        check_messages((await place.tick()).messages, expected)

    expected = 0
    await place.tick()
    idle = typical([await _cost(place, tick) for _ in range(repetitions)])
    await place.train(running, step)
    await place.tick()
    expected, ticks = jobs, []
    for _ in range(repetitions):
        step += NEW_ROWS
        await place.train(running, step)
        await place.rest()
        ticks.append(await _cost(place, tick))
    await check_values(place, running, step)
    live = typical(ticks)

    async def drift() -> None:
        log = place.log()
        await place.app("POST", "/admin/functions/drift_timer?wait=1", {})
        # One message for each account, and one for the key.
        await log.wait(r"reconcile_account \S+ succeeded", accounts + 1, seconds=_PATIENCE_S)

    checks = typical([await _cost(place, drift) for _ in range(repetitions)])
    prices = assumptions(accounts, jobs, idle, live, checks)
    usd = estimate(accounts, prices)
    findings.figures.append(
        Figure(
            f"cost_{accounts}_accounts_usd",
            f"Azure resources a month, {jobs} running jobs",
            usd["total"],
            unit="USD",
        )
    )
    findings.raw[f"{accounts} accounts, {jobs} running jobs"] = {
        "usd_a_month": usd,
        # The calculator's own times include waiting for Azure and W&B.
        "usd_a_month_with_waiting": estimate(
            accounts, replace(Assumptions(), active_share=jobs / accounts)
        ),
        "container_usd_a_month": HOURS * _CONTAINER_HOUR,
        "ml_compute_usd_a_month": HOURS * _ML_NODE_HOUR * jobs,
        "idle_tick": asdict(idle),
        "live_tick": asdict(live),
        "drift_pass": asdict(checks),
        "assumptions": asdict(prices),
    }


async def _cost(place: Stage, work: Callable[[], Awaitable[None]]) -> Work:
    storage = HostLog(place.stack.run_dir / "azurite.log")
    async with measured(place.stack.host_pid) as usage:
        await work()
    return Work(usage.cpu_s, storage.count(_TABLE_CALL))


def typical(some: list[Work]) -> Work:
    return Work(median([one.cpu_s for one in some]), median([one.table_calls for one in some]))


def check_messages(sent: int, expected: int) -> None:
    """Raise WorkMissingError unless a tick sent one message for each account with a job."""
    report.require("messages of a tick", sent, expected)


def assumptions(accounts: int, jobs: int, idle: Work, live: Work, checks: Work) -> Assumptions:
    """Return the calculator's assumptions with what was measured: CPU seconds as billed time."""
    return replace(
        Assumptions(),
        active_share=jobs / accounts,
        account_list_s=idle.cpu_s / accounts,
        active_account_s=(live.cpu_s - idle.cpu_s) / jobs,
        pass_s=checks.cpu_s / accounts,
        tick_table_calls=idle.table_calls,
        active_table_calls=(live.table_calls - idle.table_calls) / jobs,
        pass_table_calls=checks.table_calls / accounts,
    )
