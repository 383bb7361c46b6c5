"""Measures /api/status and /api/dashboard with many accounts and jobs, through the local host.

    python -m dev.tools.measure_status --accounts 500 --jobs 5000

Prints the figures that docs/operations.md records.
"""

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp

from dev.tools.demo.cloud import SUBSCRIPTION
from dev.tools.local_stack import Stack
from finetune_wandb.clients.storage.account_tables import AccountTable
from finetune_wandb.clients.storage.cursor_table import CursorTable
from finetune_wandb.clients.storage.service import Storage, StorageAddress
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.report import AccountReport, Finding
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.secret import secret_at

_CHECKS: Final = (
    "eligible identity vault secret key routing access record portal".split()  # noqa: SIM905
)
_HEAD: Final = (
    "| request | status | first, ms | median, ms | slowest, ms | CPU of the first, ms | CPU, ms"
    " | size, KiB |"
)
_CALLS: Final = 20
_ROWS_AT_ONCE: Final = 20


def report_of(number: int) -> AccountReport:
    """Return an account as a pass leaves it; every tenth one is not healthy."""
    healthy = number % 10 != 0
    return AccountReport(
        id=AccountId(SUBSCRIPTION, "rg-many", f"aoai-{number:04d}"),
        checked_at=datetime.now(UTC),
        mode="full",
        findings=tuple(
            Finding(
                check,
                "blocked" if check == "secret" and not healthy else "ok",
                "secret_missing" if check == "secret" and not healthy else f"{check}_ok",
                {"vault": "kv-many", "secret": "wandb-api-key"},
                "az keyvault secret set --vault-name kv-many --name wandb-api-key",
            )
            for check in _CHECKS
        ),
        in_scope=True,
        healthy=healthy,
        kind="OpenAI",
        region="swedencentral",
        endpoint=f"https://aoai-{number:04d}.openai.azure.com",
        entity="team",
        project="azure-openai-fine-tuning",
        secret=secret_at("kv-many.vault.azure.net", "wandb-api-key"),
    )


def cursor_of(account: AccountId, number: int) -> Cursor:
    """Return a job as the relay leaves it, with a curve of 60 points."""
    curve = [[step, round(2 / step, 5)] for step in range(1, 61)]
    series = {"every": 1, "count": 60, "points": curve, "last": curve[-1]}
    live = number % 25 == 0
    return Cursor(
        account.key,
        f"ftjob-{account.name}-{number:04d}",
        relay_state="live" if live else "complete",
        status="running" if live else "succeeded",
        run=RunPath("team", "azure-openai-fine-tuning", f"ftjob-{account.name}-{number:04d}"),
        rows=200,
        values=800,
        last_step=200,
        last_value_at=1_790_000_000.0 + number,
        lag_s=4.2,
        created_at=1_780_000_000.0 + number,
        finished_at=None if live else 1_780_003_600.0 + number,
        model="gpt-4.1-mini-2025-04-14",
        curve={"train_loss": series, "valid_loss": series},
        state={"ledger": "x" * 400},
    )


async def fill(storage: Storage, accounts: int, jobs: int) -> None:
    """Write accounts, and jobs spread over them evenly."""
    account_table, cursor_table = AccountTable(storage), CursorTable(storage)
    each = -(-jobs // accounts)
    for number in range(accounts):
        report = report_of(number)
        await account_table.write(report)
        left = min(each, jobs - number * each)
        cursors = [cursor_of(report.id, number * each + place) for place in range(left)]
        for start in range(0, len(cursors), _ROWS_AT_ONCE):
            await cursor_table.save(cursors[start : start + _ROWS_AT_ONCE])


def cpu_ms(run_dir: Path) -> float:
    """Return the processor time of host and storage so far, in milliseconds. Linux only."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for name in ("host", "azurite"):
        pid = int((run_dir / f"{name}.pid").read_text())
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / tick * 1000
    return total


async def measure(
    http: aiohttp.ClientSession, run_dir: Path, name: str, url: str, **headers: str
) -> str:
    """Print a line of the table; return the answer's ETag.

    First call, median and slowest of the next ones, processor time of the first call and the
    mean of the next ones, size.
    """
    times: list[float] = []
    size = 0
    tag = ""
    used = [cpu_ms(run_dir)]
    for number in range(_CALLS + 1):
        if number == 1:
            used.append(cpu_ms(run_dir))
        started = time.perf_counter()
        async with http.get(url, headers=headers) as answer:
            size = len(await answer.read())
            tag = answer.headers.get("ETag", "")
            status = answer.status
        times.append((time.perf_counter() - started) * 1000)
    first, rest = times[0], times[1:]
    used.append(cpu_ms(run_dir))
    line = (
        f"| {name} | {status} | {first:.0f} | {statistics.median(rest):.0f} | {max(rest):.0f}"
        f" | {used[1] - used[0]:.0f} | {(used[2] - used[1]) / len(rest):.0f}"
        f" | {size / 1024:.0f} |"
    )
    print(line, flush=True)
    return tag


async def run(accounts: int, jobs: int) -> None:
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *", "DRIFT_SCHEDULE": "0 0 0 1 1 *"}
    run_dir = Path(tempfile.mkdtemp(prefix="measure-status-"))
    async with Stack(run_dir=run_dir, isolated=True, env=quiet) as stack:
        transport = Transport()
        storage = Storage(StorageAddress(stack.storage_connection), transport)
        started = time.monotonic()
        await fill(storage, accounts, jobs)
        print(f"{accounts} accounts and {jobs} jobs written in {time.monotonic() - started:.0f} s")
        await transport.close()
        status, page = f"{stack.host_url}/api/status", f"{stack.host_url}/api/dashboard"
        print(_HEAD)
        print(re.sub(r"[^|]+", " --- ", _HEAD))
        async with aiohttp.ClientSession() as http:
            tag = await measure(http, run_dir, "status, everything", status)
            await measure(http, run_dir, "status, unchanged", status, **{"If-None-Match": tag})
            await measure(http, run_dir, "status, 100 a page", f"{status}?limit=100")
            await measure(http, run_dir, "status, one account", f"{status}?account=aoai-0001")
            await measure(http, run_dir, "status, unhealthy", f"{status}?unhealthy=1")
            tag = await measure(http, run_dir, "dashboard", page)
            await measure(http, run_dir, "dashboard, unchanged", page, **{"If-None-Match": tag})
            await measure(http, run_dir, "dashboard, 200 a page", f"{page}?limit=200")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m dev.tools.measure_status", description=__doc__)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=5000)
    options = parser.parse_args()
    asyncio.run(run(options.accounts, options.jobs))


if __name__ == "__main__":
    main()
