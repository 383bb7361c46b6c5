"""The work of a re-sync on the queues: spread it over the accounts, do an account's part.

Goes through the same code as the automatic path. Every item is a row of its own that is written
whole, so that work done twice is counted once and a killed host loses nothing. The jobs' part is
in `resync_jobs.py`.
"""

import logging
from dataclasses import replace
from typing import Any, Final

from finetune_wandb.flows import resync_jobs
from finetune_wandb.flows.account_work import check_account
from finetune_wandb.flows.app import App
from finetune_wandb.flows.set_aside import ADVICE
from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.plan import AccountReport
from finetune_wandb.model.resync import Resync, ResyncItem

log = logging.getLogger(__name__)

_BATCH: Final = 64
_KEEP_S: Final = 30 * 86_400.0


def account_item(account: str) -> str:
    return f"account {account.lower()}"


async def spread(resync_id: str, app: App) -> None:
    """Make an item and a message for each account of the request.

    Done again after a crash it sends messages twice; an account that is finished ignores its own.
    """
    resync = await app.resyncs.read_head(resync_id)
    if resync is None or resync.spread:
        return
    accounts = await _accounts(resync, app)
    for start in range(0, len(accounts), _BATCH):
        batch = accounts[start : start + _BATCH]
        for account in batch:
            await app.resyncs.add_item(
                resync.id, ResyncItem(name=account_item(account), account=account)
            )
        await app.reconcile_queue.send(
            ReconcileMessage(
                kind="account",
                account=account,
                trigger="resync",
                sent_at=app.clock(),
                apply=resync.request.applies,
                resync=resync.id,
            ).to_json()
            for account in batch
        )
    await app.resyncs.write(replace(resync, spread=True))
    log.info("resync %s: %d accounts", resync.id, len(accounts))
    await _forget_old(app)


async def _accounts(resync: Resync, app: App) -> list[str]:
    request = resync.request
    if request.scope != "all":
        return [request.account]
    accounts = {
        entry.key: str(entry.id) for entry in await app.accounts.list_all() if not entry.deleted
    }
    if "integration" in request.parts:
        for subscription in app.settings.azure_subscription_ids:
            try:
                async for account in app.reconcile.accounts.list_ids(subscription):
                    accounts.setdefault(account.key, str(account))
            except TemporaryError:
                raise
            except AppError as error:
                remedy = error.remedy or "give the app's identity Reader on the subscription"
                await _fail(resync, f"subscription {subscription}", "", error.message, remedy, app)
    return sorted(accounts.values())


async def _fail(resync: Resync, name: str, account: str, error: str, remedy: str, app: App) -> None:
    item = ResyncItem(
        name=name,
        account=account,
        state="failed",
        failed=1,
        finished_at=app.clock(),
        results=[{"error": error, "remedy": remedy}],
    )
    await app.resyncs.write_item(resync.id, item)


async def _forget_old(app: App) -> None:
    """Remove the latest re-syncs of requests that nobody has made for a month."""
    for resync_id, created_at in await app.resyncs.latest():
        if app.clock() - created_at > _KEEP_S:
            await app.resyncs.remove(resync_id)


async def account(message: ReconcileMessage, app: App) -> None:
    """Do an account's part: check or mend it, then send its jobs.

    A message that comes again goes on where the first one broke off.
    """
    resync = await app.resyncs.read_head(message.resync)
    name = account_item(message.account)
    item = await app.resyncs.read_item(message.resync, name) if resync else None
    if resync is None or item is None or item.state != "pending":
        return
    results: list[dict[str, Any]] = []
    failed = False
    if "integration" in resync.request.parts:
        try:
            report = await check_account(message, app)
            results.append(_report_view(report))
            if resync.request.applies and _is_broken(report, resync):
                failed = True
                results += [
                    {"error": f"{one.check}: {one.cause}", "remedy": one.remedy}
                    for one in report.findings
                    if one.severity == "blocked"
                ]
        except TemporaryError:
            raise
        except AppError as error:
            failed = True
            results.append({"error": error.message, "remedy": error.remedy})
    if "jobs" in resync.request.parts:
        try:
            results.append(await resync_jobs.send_jobs(resync, item, app))
        except TemporaryError:
            raise
        except AppError as error:
            failed = True
            results.append({"error": error.message, "remedy": error.remedy})
    await app.resyncs.write_item(
        resync.id,
        replace(
            item,
            state="failed" if failed else "done",
            done=0 if failed else 1,
            failed=1 if failed else 0,
            finished_at=app.clock(),
            results=results,
        ),
    )


def _report_view(report: AccountReport) -> dict[str, Any]:
    return {
        "healthy": report.healthy,
        "findings": [one.to_json() for one in report.findings if one.severity != "ok"],
        "plan": [step.to_json() for step in report.plan],
        "steps": [outcome.to_json() for outcome in report.steps],
    }


def _is_broken(report: AccountReport, resync: Resync) -> bool:
    """Whether the account is left in a state that only a person can mend."""
    if report.deleted or not report.readable:
        return report.settled and resync.request.scope != "all"
    watched = report.mode == "observe"
    return report.in_scope and report.settled and not report.healthy and not watched


async def give_up(message: ReconcileMessage, error: AppError, app: App) -> None:
    """Record work whose message is about to be set aside, so that a re-sync comes to its end."""
    resync = await app.resyncs.read_head(message.resync) if message.resync else None
    if resync is None:
        return
    remedy = f"{error.remedy}; {ADVICE}" if error.remedy else ADVICE
    if message.kind == "resync":
        await _fail(resync, "accounts", "", error.message, remedy, app)
        await app.resyncs.write(replace(resync, spread=True))
    else:
        name = account_item(message.account)
        item = await app.resyncs.read_item(resync.id, name)
        if item is not None and item.state == "pending":
            await _fail(resync, name, message.account, error.message, remedy, app)
