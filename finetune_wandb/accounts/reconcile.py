"""The engine: one pass over one account.

Reads the real state, checks it, plans, applies the steps that the mode allows, and checks again
with the answers to the writes. Never sleeps: a later pass does what is not ready yet.
"""

from dataclasses import replace
from datetime import datetime

from finetune_wandb.accounts.apply import apply_plan
from finetune_wandb.accounts.checks import check_all
from finetune_wandb.accounts.desired import desired_for
from finetune_wandb.accounts.plan import plan_steps
from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.accounts.read import read_state
from finetune_wandb.accounts.report import build_report, unreadable_report
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import Occasion
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.settings import Settings


async def reconcile_account(
    target: AccountId,
    *,
    ports: ReconcilePorts,
    settings: Settings,
    now: datetime,
    apply: bool,
    fresh_after: datetime,
    native_seen: bool = False,
    attempt: int = 0,
    occasion: Occasion = Occasion(),  # noqa: B008  # frozen
) -> AccountReport:
    """Bring one account to its desired state, and report.

    `apply` False only looks. Facts that accounts share come from memory if they were read after
    `fresh_after`. `native_seen`: one of its jobs carries Azure's own integration. `attempt` counts
    the earlier passes of this retry, from 0; pauses grow with it. Raises
    TemporaryError only when the app's own tables cannot be read or written.
    """
    try:
        account = await ports.accounts.read(target)
    except AppError as error:
        return unreadable_report(target, error, settings, now, attempt)
    if account.id.key != target.key:
        # Of an id, only the spelling is taken from the answer, so that runs do not change with it.
        account = replace(account, id=target)
    desired = desired_for(account, settings)
    state = await read_state(
        account,
        desired,
        ports=ports,
        settings=settings,
        now=now,
        fresh_after=fresh_after,
        native_seen=native_seen,
    )
    plan = plan_steps(state, check_all(state))
    mode = desired.mode if apply else "observe"
    after, outcomes = await apply_plan(state, plan, mode, ports, occasion)
    findings = check_all(after)
    return build_report(
        after,
        findings,
        plan=plan,
        outcomes=outcomes,
        attempt=attempt,
    )
