"""Timer trigger: look at every account and key, whether or not an event came."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.flows.status import report_levels
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.problem import Problem

log = logging.getLogger(__name__)

NAME: Final = "drift_timer"
_BATCH: Final = 64
_LATELY: Final = timedelta(days=1)
"""An account deleted less than this ago is looked at too: its runs may not have their end yet."""


async def drift_pass(app: App) -> int:
    """Send a message for every account there is or was, and for every key; return how many.

    A subscription that cannot be listed is recorded and does not stop the others.
    """
    sent = 0
    keys = {app.settings.default_secret}
    known: dict[str, str] = {}
    for entry in await app.accounts.list_all():
        if not entry.deleted or app.now() - entry.checked_at < _LATELY:
            known[entry.key] = str(entry.id)
        if entry.secret:
            keys.add(entry.secret)
    await app.keys.purge_changes(app.now())
    now = app.clock()
    await app.reconcile_queue.send(
        ReconcileMessage(kind="key", secret=secret, trigger="drift", sent_at=now).to_json()
        for secret in sorted(keys, key=lambda secret: secret.key)
    )
    sent += len(keys)
    batch: list[str] = []
    for subscription in app.settings.azure_subscription_ids:
        problem = Problem(source=NAME, subject=subscription, cause="its accounts cannot be listed")
        try:
            async for account in app.reconcile.accounts.list_ids(subscription):
                known.pop(account.key, None)
                batch.append(str(account))
                if len(batch) >= _BATCH:
                    sent += await _send(batch, app)
                    batch = []
        except AppError as error:
            log.warning("subscription %s cannot be listed: %s", subscription, error.message)
            remedy = error.remedy or "give the app's identity Reader on the subscription"
            await app.problems.note(replace(problem, remedy=f"{error.message}: {remedy}"))
        else:
            await app.problems.clear(problem)
    # What the listing no longer has may be gone: looking tells.
    sent += await _send([*batch, *known.values()], app)
    return sent


async def _send(accounts: list[str], app: App) -> int:
    await app.reconcile_queue.send(
        ReconcileMessage(
            kind="account", account=account, trigger="drift", sent_at=app.clock()
        ).to_json()
        for account in accounts
    )
    return len(accounts)


async def run(deps: Deps) -> None:
    """Handle one pass."""
    app = await deps.app()
    with app.telemetry.span(NAME):
        log.info("drift pass: %d messages", await drift_pass(app))
        await report_levels(app)
