"""Question 3: what does a tick cost when every job is long over?

One listing an account and nothing else, whatever the number of finished jobs. The jobs are put
into the relay's table as complete, as they stand there once they have been relayed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.bench import data, report
from dev.bench.report import Figure, Findings, median, paired
from dev.bench.stage import Stage, at_once, floor, stage
from finetune_wandb.clients.storage.cursor_table import CursorTable
from finetune_wandb.clients.storage.service import Storage, StorageAddress
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.relay.cursor import Cursor

NAME: Final = "idle_tick"


@dataclass(frozen=True, slots=True)
class Size:
    """Accounts, finished jobs in each, and how often the tick is measured."""

    accounts: int
    jobs: int
    repetitions: int


FULL: Final = Size(100, 100, 15)
QUICK: Final = Size(3, 10, 3)


async def measure(folder: Path, size: Size) -> Findings:
    """Measure idle ticks against their own listings sent barely."""
    async with stage(folder / "idle") as place:
        return await _measure(place, size)


async def _measure(place: Stage, size: Size) -> Findings:
    accounts = [f"idle-{number:03d}" for number in range(size.accounts)]
    await place.onboard(accounts)
    finished = [
        (account, f"ftjob-{account}-{number:03d}")
        for account in accounts
        for number in range(size.jobs)
    ]
    await at_once(
        place.put_job(account, job, job=data.job_object(job, "succeeded"))
        for account, job in finished
    )
    await _complete(place, finished)
    recorded = await place.record_tick()
    ticks, floors = [], []
    async with floor(recorded, place.stack.run_dir) as listings:
        # A new process asks storage once which jobs are complete.
        await place.tick()
        await place.forget_requests()
        for _ in range(size.repetitions):
            ticks.append(await place.tick())
            floors.append(await listings.bare())
        requests = sum(item["count"] for item in await place.requests())
    ours = requests - listings.count * size.repetitions
    check(ours, sum(tick.messages for tick in ticks), len(accounts) * size.repetitions)
    wall = paired([tick.timer_s for tick in ticks], [one["wall_s"] for one in floors])
    cpu = paired([tick.cpu_s for tick in ticks], [one["cpu_s"] for one in floors])
    return Findings(
        [
            Figure("idle_vs_floor", f"idle tick, {len(accounts)} accounts, wall ÷ floor", wall, 2),
            Figure("idle_cpu_vs_floor", "idle tick, CPU ÷ floor", cpu),
            Figure(
                "idle_calls_per_account",
                "requests of any kind an account",
                ours / size.repetitions / len(accounts),
                1.0,
                unit="calls",
            ),
        ],
        {
            "tick_wall_s": [tick.timer_s for tick in ticks],
            "tick_cpu_s": [tick.cpu_s for tick in ticks],
            "floor": floors,
            "median_tick_wall_s": median([tick.timer_s for tick in ticks]),
            "messages": sum(tick.messages for tick in ticks),
            "recorded": listings.count,
        },
    )


def check(requests: int, messages: int, listings: int) -> None:
    """Raise WorkMissingError where an account was not listed, or a job was not as complete."""
    report.require("accounts listed", min(requests, listings), listings)
    report.require("messages about finished jobs", messages, 0)


async def _complete(place: Stage, finished: list[tuple[str, str]]) -> None:
    transport = Transport()
    address = StorageAddress(connection_string=place.stack.storage_connection)
    storage = Storage(address, transport)
    table = CursorTable(storage)
    by_account: dict[str, list[Cursor]] = {}
    for account, job in finished:
        key = place.account_id(account).lower()
        cursor = Cursor(key, job, relay_state="complete", status="succeeded")
        by_account.setdefault(account, []).append(cursor)
    try:
        await at_once(table.save(cursors) for cursors in by_account.values())
    finally:
        await transport.close()
