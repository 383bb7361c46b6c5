"""One relay tick: find the jobs that have work and send them, account by account."""

import logging

from finetune_wandb.flows import work
from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.problem import Problem, Source
from finetune_wandb.relay.passes.finder import Found

log = logging.getLogger(__name__)


async def handle(app: App) -> Found:
    """Run one tick. One account's failure is recorded and does not stop the others."""
    try:
        await work.look_after(app)
    except AppError as lost:
        await app.problems.note(_problem("work", lost))
    found = await app.finder.tick(await app.accounts.list_for_relay(), clock=app.clock)
    for account, error in found.oddities.items():
        await app.problems.note(_problem(account, error))
    for account, error in found.failures.items():
        if await app.problems.note(_problem(account, error)):
            log.warning("account %s: its jobs cannot be listed: %s", account, error.message)
    for account, cause in found.recovered:
        await app.problems.clear(Problem(source=Source.RELAY_TIMER, subject=account, cause=cause))
    log.info(
        "tick: %d accounts, %d jobs listed, %d messages, %d accounts failed",
        found.accounts,
        found.jobs,
        found.messages,
        len(found.failures),
    )
    return found


def _problem(account: str, error: AppError) -> Problem:
    return Problem(
        source=Source.RELAY_TIMER, subject=account, cause=error.message, remedy=error.remedy
    )
