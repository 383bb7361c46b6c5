"""The two timers: a tick finds the jobs that have work, and what died with a process; a drift pass
has every account and key looked at, event or not, and removes what is old."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

from finetune_wandb.flows import work
from finetune_wandb.flows.app import App
from finetune_wandb.flows.status import report_levels
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.messages import account_messages, key_message
from finetune_wandb.model.work import Problem, Source, problem_of
from finetune_wandb.relay.passes.finder import Found
from finetune_wandb.relay.ports import unexpected

log = logging.getLogger(__name__)

_WORK: Final = "work"
_BATCH: Final = 64
_JUST_DELETED: Final = timedelta(days=1)
"""An account deleted less than this ago is looked at too: its runs may still be open."""
_KEEP_RESYNCS_S: Final = 30 * 86_400.0


async def tick(app: App) -> Found:
    """Run one tick. One account's failure is recorded and does not stop the others."""
    try:
        await work.look_after(app)
    except Exception as met:  # whatever it is, jobs are found and relayed
        lost = met if isinstance(met, AppError) else unexpected(met, "looking after", _WORK)
        await app.problems.note(problem_of(lost, Source.RELAY_TIMER, _WORK))
    if app.finder.failing is None:
        app.finder.failing = {
            (item.subject, item.cause)
            for item in await app.problems.list_all()
            if item.source == Source.RELAY_TIMER and item.subject != _WORK
        }
    found = await app.finder.tick(await app.accounts.list_for_relay(), clock=app.clock)
    for account, error in found.oddities.items():
        await app.problems.note(problem_of(error, Source.RELAY_TIMER, account))
    for account, error in found.failures.items():
        if await app.problems.note(problem_of(error, Source.RELAY_TIMER, account)):
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


async def drift(app: App) -> int:
    """Run one pass; return how many messages were sent."""
    with app.telemetry.span(Source.DRIFT_TIMER):
        sent = await _send_all(app)
        log.info("drift pass: %d messages", sent)
        await report_levels(app)
        await app.audit.purge(app.now() - timedelta(days=app.settings.audit_days))
        await app.problems.purge()
        await app.resyncs.purge(app.clock() - _KEEP_RESYNCS_S)
    return sent


async def _send_all(app: App) -> int:
    """Send a message for every account that exists or existed, and for every key that one uses.

    A subscription that cannot be listed is recorded and does not stop the others.
    """
    keys = {app.settings.default_secret}
    known: dict[str, str] = {}
    for entry in await app.accounts.list_all():
        if not entry.deleted or app.now() - entry.checked_at < _JUST_DELETED:
            known[entry.key] = str(entry.id)
        if entry.secret and not entry.deleted:
            keys.add(entry.secret)
    now = app.clock()
    await app.queues.send(
        key_message(secret, trigger="drift", now=now)
        for secret in sorted(keys, key=lambda secret: secret.key)
    )
    sent = len(keys)
    batch: list[str] = []
    for subscription in app.settings.azure_subscription_ids:
        problem = Problem(
            source=Source.DRIFT_TIMER, subject=subscription, cause="its accounts cannot be listed"
        )
        try:
            async for account in app.reconcile.accounts.list_ids(subscription):
                known.pop(account.key, None)
                batch.append(str(account))
                if len(batch) >= _BATCH:
                    count = await _send(batch, app)
                    sent, batch = sent + count, []
        except AppError as error:
            log.warning("subscription %s cannot be listed: %s", subscription, error.message)
            remedy = error.remedy or "grant the app's identity Reader on the subscription"
            await app.problems.note(replace(problem, remedy=f"{error.message}: {remedy}"))
        else:
            await app.problems.clear(problem)
    # Accounts that the listing no longer has may be gone: their own pass finds out.
    return sent + await _send([*batch, *known.values()], app)


async def _send(accounts: list[str], app: App) -> int:
    await app.queues.send(account_messages(accounts, trigger="drift", now=app.clock()))
    return len(accounts)
