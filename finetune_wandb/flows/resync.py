"""A re-sync: taken on or joined, spread over the accounts, each account's part, and its end.

Goes through the same code as the automatic path. Every item is a row of its own that is written
whole, so that work done twice is counted once and a killed host loses nothing. The jobs' part is
in `resync_jobs.py`.
"""

import hashlib
import logging
import uuid
from dataclasses import asdict, replace
from typing import Any, Final

import msgspec
import orjson

from finetune_wandb.flows import account, resync_jobs
from finetune_wandb.flows.app import App
from finetune_wandb.model.accounts.report import AccountReport, open_findings
from finetune_wandb.model.errors import AppError, ConflictError, TemporaryError
from finetune_wandb.model.messages import (
    AccountMessage,
    Message,
    RelayMessage,
    RequeueMessage,
    ResyncMessage,
)
from finetune_wandb.model.resync import Resync, ResyncItem, ResyncRequest, is_done

log = logging.getLogger(__name__)

_BATCH: Final = 64
_STALE_S: Final = 86_400.0
"""A re-sync that runs for longer is not joined any more."""
_SPREAD_S: Final = 60.0
"""One that is not spread by now may have lost its process before its message was sent."""


async def start(request: ResyncRequest, app: App, *, requested_by: str) -> Resync:
    """Take on a re-sync; the same request while one is running joins it."""
    if request.scope == "all" and request.applies:
        await app.queues.send([RequeueMessage(sent_at=app.clock())])
    same = replace(request, account=request.account.lower())  # ids differ in case only
    fingerprint = hashlib.sha256(
        orjson.dumps(asdict(same), option=orjson.OPT_SORT_KEYS)
    ).hexdigest()
    known = await app.resyncs.running(fingerprint)
    if known and (running := await _join(known, app)):
        return running
    resync = Resync(
        id=uuid.uuid4().hex,
        request=request,
        requested_by=requested_by,
        created_at=app.clock(),
    )
    await app.resyncs.write(resync)
    latest = await app.resyncs.claim(fingerprint, resync, instead_of=known)
    if latest != resync.id:
        # The same was requested a moment ago.
        await app.resyncs.remove(resync.id)
        joined = await _join(latest, app) if latest else None
        if joined is None:
            raise ConflictError("the same re-sync was requested at this moment; request it again")
        return joined
    await app.queues.send([ResyncMessage(resync=resync.id, sent_at=app.clock())])
    return resync


async def _join(resync_id: str, app: App) -> Resync | None:
    """Return this re-sync if it is still running."""
    found = await app.resyncs.read(resync_id)
    if found is None or app.clock() - found[0].created_at >= _STALE_S or is_done(*found):
        return None
    resync = found[0]
    if not resync.spread and app.clock() - resync.created_at > _SPREAD_S:
        await app.queues.send([ResyncMessage(resync=resync.id, sent_at=app.clock())])
    return resync


def _account_message(resync: Resync, account_id: str, app: App) -> AccountMessage:
    return AccountMessage(
        account=account_id,
        trigger="resync",
        sent_at=app.clock(),
        apply=resync.request.applies,
        resync=resync.id,
    )


def account_item(account_id: str) -> str:
    """Return the name of an account's item."""
    return f"account {account_id.lower()}"


async def spread(message: ResyncMessage, app: App) -> None:
    """Make an item and a message for each account of the request.

    Done again after a crash it sends messages twice; an account that is finished ignores its own.
    """
    resync = await app.resyncs.read_head(message.resync)
    if resync is None or resync.spread:
        return
    accounts = await _accounts(resync, app)
    for start in range(0, len(accounts), _BATCH):
        batch = accounts[start : start + _BATCH]
        for one in batch:
            await app.resyncs.add_item(resync.id, ResyncItem(name=account_item(one), account=one))
        await app.queues.send(_account_message(resync, one, app) for one in batch)
    await app.resyncs.write(replace(resync, spread=True))
    log.info("resync %s: %d accounts", resync.id, len(accounts))


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
                async for one in app.reconcile.accounts.list_ids(subscription):
                    accounts.setdefault(one.key, str(one))
            except TemporaryError:
                raise
            except AppError as error:
                remedy = error.remedy or "grant the app's identity Reader on the subscription"
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


async def handle_account(message: AccountMessage, app: App) -> None:
    """Do an account's part: check it and apply its plan, then send its jobs.

    A message that comes again continues where the first one broke off.
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
            report = await account.handle(message, app)
        except TemporaryError:
            raise
        except AppError as error:
            failed = True
            results.append({"error": error.message, "remedy": error.remedy})
        else:
            results.append(_report_view(report))
            if resync.request.applies and _is_broken(report, resync):
                failed = True
                results += [
                    {"error": f"{one.check}: {one.cause}", "remedy": one.remedy}
                    for one in report.findings
                    if one.severity == "blocked"
                ]
    if "jobs" in resync.request.parts:
        try:
            results.append(await resync_jobs.send_jobs(resync, item, app))
        except TemporaryError:
            raise
        except AppError as error:
            failed = True
            results.append({"error": error.message, "remedy": error.remedy})
    finished = replace(
        item,
        state="failed" if failed else "done",
        done=int(not failed),
        failed=int(failed),
        finished_at=app.clock(),
        results=results,
    )
    await app.resyncs.write_item(resync.id, finished)


def _report_view(report: AccountReport) -> dict[str, Any]:
    return {
        "healthy": report.healthy,
        "findings": msgspec.to_builtins(open_findings(report.findings)),
        "plan": msgspec.to_builtins(report.plan),
        "steps": msgspec.to_builtins(report.steps),
    }


def _is_broken(report: AccountReport, resync: Resync) -> bool:
    """Return whether the account is left in a state that only a person can fix."""
    if report.deleted or not report.readable:
        return report.settled and resync.request.scope != "all"
    is_observed = report.mode == "observe"
    return report.in_scope and report.settled and not report.healthy and not is_observed


async def give_up(message: Message, error: AppError, app: App) -> None:
    """End the part of a re-sync whose message is about to be set aside."""
    resync = await app.resyncs.read_head(message.resync) if message.resync else None
    if resync is None:
        return
    if isinstance(message, RelayMessage):
        await resync_jobs.jobs_left(message, error, app)
    elif isinstance(message, ResyncMessage):
        await _fail(resync, "accounts", "", error.message, error.remedy, app)
        await app.resyncs.write(replace(resync, spread=True))
    elif isinstance(message, AccountMessage):
        name = account_item(message.account)
        item = await app.resyncs.read_item(resync.id, name)
        if item is not None and item.state == "pending":
            await _fail(resync, name, message.account, error.message, error.remedy, app)
