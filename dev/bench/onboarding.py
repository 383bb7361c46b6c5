"""Question 7: two hundred accounts appear at once; how long, and how many calls for each?"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.bench import report
from dev.bench.report import Figure, Findings, WorkMissingError
from dev.bench.stage import Stage, at_once, stage
from dev.bench.watch import measured
from dev.tools.demo.cloud import Json, until

NAME: Final = "onboarding"
_OURS: Final = ("arm", "vault", "wandb", "openai")


@dataclass(frozen=True, slots=True)
class Size:
    accounts: int


FULL: Final = Size(200)
QUICK: Final = Size(8)


async def measure(folder: Path, size: Size) -> Findings:
    """Create the accounts at once and wait until all are healthy."""
    async with stage(folder / "onboarding") as place:
        await place.onboard(["first"])
        await place.forget_requests()
        return await _measure(place, size.accounts)


async def _measure(place: Stage, count: int) -> Findings:
    names = {f"new-{number:03d}" for number in range(count)}
    async with measured(place.stack.host_pid) as usage:
        started = time.perf_counter()
        await at_once(place.put_account(name) for name in names)
        created_s = time.perf_counter() - started
        await until(
            lambda: place.all_healthy(names),
            "accounts do not become healthy",
            seconds=300,
            every=0.5,
        )
    # What the app's own writes raised as events is still to be taken.
    await asyncio.sleep(1.0)
    calls = calls_of(await place.requests(), count)
    await check_accounts(place, names)
    total = sum(calls.values())
    return Findings(
        [
            Figure(
                "onboarding_calls_per_account",
                f"{count} new accounts at once: calls to Azure and W&B an account",
                total / count,
                5,
                unit="calls",
            ),
            Figure("onboarding_wall_s", "until all are healthy", usage.wall_s, unit="s"),
            Figure(
                "onboarding_cpu_ms", "host CPU an account", usage.cpu_s / count * 1e3, unit="ms"
            ),
        ],
        {
            "accounts": count,
            "created_s": created_s,
            "wall_s": usage.wall_s,
            "cpu_s": usage.cpu_s,
            "peak_bytes": usage.peak_bytes,
            "calls": {kind: number for kind, number in calls.most_common() if number},
        },
    )


async def check_accounts(place: Stage, names: set[str]) -> None:
    """Raise WorkMissingError unless each account is healthy and carries the app's record."""
    shown = (await place.status())["accounts"]
    healthy = names & {item["name"] for item in shown if item["healthy"]}
    accounts = await at_once(place.read_account(name) for name in sorted(names))
    recorded = [one for one in accounts if "wandb-secret-name" in (one.get("tags") or {})]
    report.require("accounts healthy", len(healthy), len(names))
    report.require("accounts with the app's record", len(recorded), len(names))


def calls_of(requests: list[Json], created: int) -> Counter[str]:
    """Return the app's calls by kind: all but those that created the accounts.

    Raises WorkMissingError where not so many accounts were created.
    """
    calls: Counter[str] = Counter()
    for item in requests:
        if item["service"] in _OURS:
            parts = item["path"].split("/")
            kind = "/".join(part for part in parts[:-1] if part and not part.startswith("new-"))
            calls[f"{item['service']} {item['method']} {kind}"] += item["count"]
    for kind in calls:
        if kind.startswith("arm PUT") and kind.endswith("/accounts"):
            report.require("accounts created", calls[kind], created)
            calls[kind] -= created
            return calls
    raise WorkMissingError("no account was created")
