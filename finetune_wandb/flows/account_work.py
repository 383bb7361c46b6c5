"""The two looks that everything goes through: at one account, and at one key.

Puts off what is not ready yet by a delayed message; nothing here waits.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from finetune_wandb.accounts import record, shared
from finetune_wandb.accounts.reconcile import reconcile_account
from finetune_wandb.flows import key_rotation
from finetune_wandb.flows.account_end import settle_runs
from finetune_wandb.flows.app import App
from finetune_wandb.flows.outcomes import tell_account
from finetune_wandb.keys import newest as keys
from finetune_wandb.model import ids
from finetune_wandb.model.key import KeyReport
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.plan import AccountReport
from finetune_wandb.model.secret import SecretRef

log = logging.getLogger(__name__)

_MOST_ATTEMPTS: Final = 10
"""After these the drift timer goes on looking."""


async def check_account(message: ReconcileMessage, app: App) -> AccountReport:
    """Check and, where allowed, mend one account; store the report; put off what waits."""
    target = ids.parse_account_id(message.account)
    async with app.reconcile.shared.turn(target.key):
        before = await app.accounts.read(target)
        report = await reconcile_account(
            target,
            ports=app.reconcile,
            settings=app.settings,
            now=app.now(),
            apply=message.apply,
            fresh_after=datetime.fromtimestamp(message.sent_at, UTC),
            native_seen=before is not None and before.native_seen,
            attempt=message.attempt,
        )
        stored = await record.record_report(report, accounts=app.accounts, notices=app.notices)
        await settle_runs(before, report, message, app)
    if report.retry_after_s is not None:
        later = replace(
            message, trigger="deferred", attempt=message.attempt + 1, sent_at=0.0, resync=""
        )
        await app.reconcile_queue.send([later.to_json()], delay_s=report.retry_after_s)
    await _send_untold(report, app)
    tell_account(stored, app)
    return stored


async def _send_untold(report: AccountReport, app: App) -> None:
    """Have people told what the look at an account found out about its key."""
    if not report.in_scope or report.secret is None:
        return
    if not record.is_untold(await app.reconcile.keys.read(report.secret)):
        return
    await app.reconcile_queue.send(
        [
            ReconcileMessage(
                kind="key",
                secret=report.secret,
                trigger="account pass",
                sent_at=app.clock(),
            ).to_json()
        ]
    )


async def prove_key(message: ReconcileMessage, app: App) -> KeyReport:
    """Look at a secret's newest version; when something is new, look at who depends on it."""
    secret = message.secret
    assert secret is not None, "decoding refuses a key message without one"
    report = await _look(secret, message, app)
    if await key_rotation.advance(secret, app) is not None:
        report = await _look(secret, replace(message, sent_at=app.clock()), app)
    if report.retry_after_s is not None or report.temporary:
        pause = min(report.retry_after_s or 5.0 * 2 ** min(message.attempt, 9), 1800.0)
        later = replace(message, attempt=message.attempt + 1)
        if later.attempt <= _MOST_ATTEMPTS:
            await app.reconcile_queue.send([later.to_json()], delay_s=pause)
    if await record.key_news(report, now=app.now(), keys=app.reconcile.keys):
        # Who was looked at since has seen it; everybody else may be better or worse off now.
        # Sent before it counts as told: a host that dies between the two comes here again.
        since = report.record.checked_at
        dependents = [
            ReconcileMessage(
                kind="account", account=str(entry.id), trigger="key", sent_at=app.clock()
            ).to_json()
            for entry in await app.accounts.list_all()
            if entry.secret == secret
            and entry.in_scope
            and not entry.deleted
            and (since is None or entry.checked_at < since)
        ]
        await app.reconcile_queue.send(dependents)
        await record.record_key(report, now=app.now(), keys=app.reconcile.keys, notices=app.notices)
    log.info(
        "key %s: version in use %s (%s)",
        secret,
        report.record.version or "none",
        ", ".join(item.cause for item in report.findings) or "-",
    )
    return report


async def _look(secret: SecretRef, message: ReconcileMessage, app: App) -> KeyReport:
    """Look at the key, or share a look that was begun after the message was sent."""
    now = app.now()
    return await app.reconcile.shared.get(
        shared.key_key(secret),
        lambda: keys.prove_newest(
            secret,
            ports=app.reconcile,
            settings=app.settings,
            now=now,
            trigger=message.trigger,
        ),
        now=now,
        fresh_after=datetime.fromtimestamp(message.sent_at, UTC),
        keep=lambda report: not report.temporary,
    )
