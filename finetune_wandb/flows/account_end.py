"""What becomes of an account's open runs when it is gone, and when it is there again."""

import logging
from dataclasses import replace
from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.plan import AccountEntry, AccountReport
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.relay.passes.closing import close_runs, reopen_runs

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 15.0
_LONGEST_PAUSE_S: Final = 1800.0
_MOST_ATTEMPTS: Final = 8
"""After these the drift timer goes on looking, for a day after the deletion."""


async def settle_runs(
    before: AccountEntry | None, after: AccountReport, message: ReconcileMessage, app: App
) -> None:
    """End the open runs of an account that is gone; reopen those of one that came back.

    `before` is what was stored, `after` what this pass found. A pass that only looks changes
    nothing. Raises TemporaryError when the app's own tables cannot be read or written.
    """
    if before is None or not message.apply:
        return
    if after.deleted:
        await _close(before, message, app)
    elif before.deleted and after.in_scope:
        reopened = await reopen_runs(after.key, app.relay)
        log.info("account %s is there again: %d jobs go on", after.id, reopened)


async def _close(entry: AccountEntry, message: ReconcileMessage, app: App) -> None:
    # One whose own choice of a secret was not allowed has no key but the default.
    account = _relay_account(entry, entry.secret or app.settings.default_secret)
    closed = await close_runs(account, app.relay, now=app.clock())
    if closed.ended:
        log.info("account %s is gone: %d open runs ended", entry.id, closed.ended)
    if closed.waiting and message.attempt < _MOST_ATTEMPTS:
        later = replace(
            message, trigger="deferred", attempt=message.attempt + 1, sent_at=0.0, resync=""
        )
        pause = min(_FIRST_PAUSE_S * 2**message.attempt, _LONGEST_PAUSE_S)
        await app.reconcile_queue.send([later.to_json()], delay_s=pause)


def _relay_account(entry: AccountEntry, secret: SecretRef) -> RelayAccount:
    return RelayAccount(
        id=entry.id,
        name=entry.name,
        endpoint=entry.endpoint,
        region=entry.region,
        subscription=entry.id.subscription,
        entity=entry.entity,
        project=entry.project,
        secret=secret,
    )
