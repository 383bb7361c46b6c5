"""Estimates what the app costs a month, from prices and assumptions that you can change.

The prices are list prices as remembered for one region, not fetched: use your own. W&B and
fine-tuning itself are not included. docs/deploy.md shows the result; a test keeps both equal.

Run: python -m infra.commands.cost --accounts 200 [--set active_share=0.5] [--set gb_s=0.00003] [--private]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

TICKS = 43_200
"""Minutes of 30 days: relay ticks a month with the default schedule."""
HOURS = 720
"""Hours of 30 days: drift passes a month with the default schedule."""
LOG_ALERTS = 8
"""Rules of infra/modules/alerts.bicep."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Prices in USD (pay as you go, assumed 2026-11), and how the app is used."""

    gb_s: float = 0.000026
    """Flex Consumption, on demand: one GB for one second."""
    free_gb_s: float = 100_000
    million_executions: float = 0.40
    free_executions: float = 250_000
    gb_of_logs: float = 2.76
    free_gb_of_logs: float = 5
    ten_thousand_queue_calls: float = 0.004
    ten_thousand_table_calls: float = 0.0004
    ten_thousand_blob_writes: float = 0.05
    ten_thousand_vault_calls: float = 0.03
    log_alert: float = 0.50
    metric_alert: float = 0.10
    private_endpoint_hour: float = 0.01
    private_zone: float = 0.50
    memory_gb: float = 2
    active_share: float = 0.2
    """Part of the accounts that have a running job at any time."""
    tick_s: float = 1
    """Least time that an instance is paid for when it wakes."""
    account_list_s: float = 0.01
    """Time of a tick for one account more; the accounts are listed at once."""
    active_account_s: float = 0.1
    """Time of an instance for the jobs of one account; several are worked on at once."""
    pass_s: float = 0.5
    """Time of one check of one account."""
    tick_table_calls: float = 2
    active_table_calls: float = 3
    """Of a tick, for one account with running jobs."""
    pass_table_calls: float = 2
    kb_of_logs: float = 2
    """Log volume of one execution, after sampling."""


def estimate(accounts: int, prices: Assumptions, *, private: bool = False) -> dict[str, float]:
    """Return USD a month by item, `total` last."""
    active = accounts * prices.active_share
    passes = HOURS * accounts
    executions = TICKS + TICKS * active + HOURS + passes
    seconds = (
        TICKS * max(prices.tick_s, accounts * prices.account_list_s)
        + TICKS * active * prices.active_account_s
        + passes * prices.pass_s
    )
    gb_of_logs = executions * prices.kb_of_logs / 1e6
    # The host looks at three queues every two seconds while an instance is there.
    queue_calls = seconds / 2 * 3 + executions * 3
    table_calls = (
        TICKS * (prices.tick_table_calls + active * prices.active_table_calls)
        + passes * prices.pass_table_calls
    )
    items = {
        "compute": max(seconds * prices.memory_gb - prices.free_gb_s, 0) * prices.gb_s,
        "executions": max(executions - prices.free_executions, 0) / 1e6 * prices.million_executions,
        "logs": max(gb_of_logs - prices.free_gb_of_logs, 0) * prices.gb_of_logs,
        "storage": (
            queue_calls * prices.ten_thousand_queue_calls
            + table_calls * prices.ten_thousand_table_calls
            + TICKS * 6 * prices.ten_thousand_blob_writes
        )
        / 1e4,
        "key vault": (passes + HOURS) * prices.ten_thousand_vault_calls / 1e4,
        # Far below the hundred thousand operations that are free.
        "event grid": 0.0,
        "alerts": LOG_ALERTS * prices.log_alert + 2 * prices.metric_alert,
    }
    if private:
        items["private endpoints"] = 4 * (
            HOURS * prices.private_endpoint_hour + prices.private_zone
        )
    return items | {"total": sum(items.values())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the estimate; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.commands.cost", description="estimate the monthly cost"
    )
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--private", action="store_true", help="with private networking")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER")
    options = parser.parse_args(arguments)
    names = {item.name for item in fields(Assumptions)}
    changes: dict[str, float] = {}
    for change in options.set:
        name, _, number = change.partition("=")
        try:
            changes[name] = float(number)
        except ValueError:
            parser.error(f"{change} is not NAME=NUMBER")
        if name not in names:
            parser.error(f"{name} is not one of {', '.join(sorted(names))}")
    for item, usd in estimate(
        options.accounts, replace(Assumptions(), **changes), private=options.private
    ).items():
        print(f"{item:<18} {usd:8.2f} USD")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
