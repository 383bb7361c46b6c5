"""One pass over one account of a fake world, as the queue handler makes it."""

from datetime import datetime

from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.accounts.reconcile import reconcile_account
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.settings import Settings
from tests.fakes import NOW, World, account_id, settings


async def run_pass(
    world: World,
    *,
    name: str = "alpha",
    using: Settings | None = None,
    ports: ReconcilePorts | None = None,
    apply: bool = True,
    now: datetime = NOW,
    native_seen: bool = False,
    attempt: int = 0,
) -> AccountReport:
    """Make a pass with facts that nobody read before, unless `ports` are shared."""
    return await reconcile_account(
        account_id(name),
        ports=ports or world.ports(),
        settings=using or settings(),
        now=now,
        apply=apply,
        fresh_after=now,
        native_seen=native_seen,
        attempt=attempt,
    )


def causes(report: AccountReport, *severities: str) -> list[str]:
    """Return the cause codes of a report, of given severities or of all but ok."""
    wanted = severities or ("warning", "blocked", "manual")
    return sorted(item.cause for item in report.findings if item.severity in wanted)
