"""Timer trigger: find the jobs that have work and send them, account by account."""

import logging
from typing import Final

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.problem import Problem
from finetune_wandb.relay.passes.finder import Found

log = logging.getLogger(__name__)

NAME: Final = "relay_timer"


async def relay_tick(app: App) -> Found:
    """Run one tick. One account's failure is recorded and does not stop the others."""
    found = await app.finder.tick(await app.accounts.list_for_relay(), clock=app.clock)
    for account, error in found.oddities.items():
        await app.problems.note(_problem(account, error))
    for account, error in found.failures.items():
        if await app.problems.note(_problem(account, error)):
            log.warning("account %s: its jobs cannot be listed: %s", account, error.message)
    for account, cause in found.recovered:
        await app.problems.clear(Problem(source=NAME, subject=account, cause=cause))
    return found


def _problem(account: str, error: AppError) -> Problem:
    return Problem(source=NAME, subject=account, cause=error.message, remedy=error.remedy)


async def run(deps: Deps) -> None:
    """Handle one tick."""
    found = await relay_tick(await deps.app())
    log.info(
        "tick: %d accounts, %d jobs listed, %d messages, %d accounts failed",
        found.accounts,
        found.jobs,
        found.messages,
        len(found.failures),
    )
