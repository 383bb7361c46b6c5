"""A re-sync: taken on or joined, spread over the accounts, each account's part, and its end.

Goes through the same code as the automatic path. Every item is a row of its own that is written
whole, so that work done twice is counted once and a killed host loses nothing.

An account's jobs are first stored as items, then marked as listed, then sent: a host that dies
on the way finds what is still to be sent and never lists a second, different set.
"""

import hashlib
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import batched
from typing import Any, Final

import msgspec
import orjson

from finetune_wandb.flows import account
from finetune_wandb.flows.app import App
from finetune_wandb.model import ids
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.report import AccountReport, open_findings
from finetune_wandb.model.audit import AuditEntry
from finetune_wandb.model.errors import AppError, ConflictError, MissingError, TemporaryError
from finetune_wandb.model.messages import (
    AccountMessage,
    BackfillMessage,
    Message,
    RelayMessage,
    RequeueMessage,
    ResyncMessage,
)
from finetune_wandb.model.resync import (
    Resync,
    ResyncItem,
    ResyncRequest,
    failure,
    finish_jobs,
    is_done,
)
from finetune_wandb.relay.passes.finder import closed_states, due_jobs, job_messages
from finetune_wandb.relay.passes.job_pass import JobOutcome

log = logging.getLogger(__name__)

_BATCH: Final = 64
_STALE_S: Final = 86_400.0
"""A re-sync that runs for longer is not joined any more."""
_SPREAD_S: Final = 60.0
"""One that is not spread by now may have lost its process before its message was sent."""
_FINE: Final = frozenset({"live", "ending", "complete", "skipped", "new"})
_PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 45.0, 120.0)
"""How long jobs wait that failed for a temporary reason, by attempt."""


def no_such_job(subject: str) -> MissingError:
    return MissingError(
        "the account has no such job",
        subject=subject,
        remedy="check the job's id and its account; deleted jobs cannot be relayed",
    )


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
    await app.audit.write(_entry(resync))
    await app.queues.send([ResyncMessage(resync=resync.id, sent_at=app.clock())])
    return resync


def _entry(resync: Resync) -> AuditEntry:
    asked = resync.request
    detail = {"id": resync.id, "mode": asked.mode, "parts": ",".join(asked.parts), "job": asked.job}
    return AuditEntry(
        at=datetime.fromtimestamp(resync.created_at, UTC),
        action="resync",
        subject=asked.account or "all",
        outcome="done",
        trigger="resync",
        by=resync.requested_by,
        detail=detail,
    )


async def _join(resync_id: str, app: App) -> Resync | None:
    """Return this re-sync if it is still running."""
    found = await app.resyncs.read(resync_id)
    if found is None or app.clock() - found[0].created_at >= _STALE_S or is_done(*found):
        return None
    resync = found[0]
    if not resync.spread and app.clock() - resync.created_at > _SPREAD_S:
        await app.queues.send([ResyncMessage(resync=resync.id, sent_at=app.clock())])
    return resync


def _item_name(account_id: str) -> str:
    return f"account {account_id.lower()}"


async def spread(message: ResyncMessage, app: App) -> None:
    """Make an item and a message for each account of the request.

    Done again after a crash it sends messages twice; an account that is finished ignores its own.
    """
    resync = await app.resyncs.read_head(message.resync)
    if resync is None or resync.spread:
        return
    accounts = await _accounts(resync, app)
    for batch in batched(accounts, _BATCH, strict=False):
        for one in batch:
            await app.resyncs.add_item(resync.id, ResyncItem(name=_item_name(one), account=one))
        await app.queues.send(
            AccountMessage(
                account=one,
                trigger="resync",
                sent_at=app.clock(),
                apply=resync.request.applies,
                resync=resync.id,
                by=resync.requested_by,
            )
            for one in batch
        )
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
                denied = AppError(error.message, remedy=remedy)
                item = ResyncItem(name=f"subscription {subscription}", account="")
                await _end(resync, item, [failure(denied)], app, failed=True)
    return sorted(accounts.values())


async def _end(
    resync: Resync, item: ResyncItem, results: list[dict[str, Any]], app: App, *, failed: bool
) -> None:
    ended = replace(
        item,
        state="failed" if failed else "done",
        done=int(not failed),
        failed=int(failed),
        finished_at=app.clock(),
        results=results,
    )
    await app.resyncs.write_item(resync.id, ended)


async def handle_account(message: AccountMessage, app: App) -> None:
    """Do an account's part: check it and apply its plan, then send its jobs.

    A message that comes again continues where the first one broke off.
    """
    resync = await app.resyncs.read_head(message.resync)
    name = _item_name(message.account)
    item = await app.resyncs.read_item(message.resync, name) if resync else None
    if resync is None or item is None or item.state != "pending":
        return
    results: list[dict[str, Any]] = []
    failed = False
    for part in resync.request.parts:
        try:
            if part == "jobs":
                results.append(await _send_jobs(resync, item, app))
                continue
            report = await account.handle(message, app)
            found = {
                "healthy": report.healthy,
                "findings": open_findings(report.findings),
                "plan": report.plan,
                "steps": report.steps,
            }
            results.append(msgspec.to_builtins(found))
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
            results.append(failure(error))
    await _end(resync, item, results, app, failed=failed)


def _is_broken(report: AccountReport, resync: Resync) -> bool:
    """Return whether the account is left in a state that only a person can fix."""
    if report.deleted or not report.readable:
        return report.settled and resync.request.scope != "all"
    is_observed = report.mode == "observe"
    return report.in_scope and report.settled and not report.healthy and not is_observed


def _prefix(account: ids.AccountId) -> str:
    return f"jobs {account.key} "


async def _send_jobs(resync: Resync, item: ResyncItem, app: App) -> dict[str, Any]:
    """Send the account's jobs that the request covers; return how many of which kind there are.

    Raises MissingError where the account's jobs are not relayed at all.
    """
    target = ids.parse_account_id(item.account)
    account = await app.accounts.find_for_relay(target)
    if account is None:
        if resync.request.scope == "all":
            return {"jobs": 0}
        raise MissingError(
            "the account's jobs are not relayed",
            subject=item.account,
            remedy="see its findings in /api/status: it is not in scope, or was never checked;"
            " include integration in parts",
        )
    if item.listed:
        # An earlier try stored these, and may not have sent all of them.
        items = await _job_items(resync, target, app)
        await app.queues.send(_message_of(resync, one, app) for one in items if one.left)
        return {"jobs": sum(one.total for one in items)}
    jobs, counts = await _due(resync.request, account, app)
    if not resync.request.applies:
        return counts
    found = job_messages(account, jobs, BackfillMessage, sent_at=app.clock(), trigger="resync")
    messages: dict[str, BackfillMessage] = {}
    for number, message in enumerate(found):
        name, left = f"{_prefix(target)}{number:05d}", tuple(message.job_ids)
        messages[name] = msgspec.structs.replace(
            message, resync=resync.id, item=name, force=resync.request.force
        )
        one = ResyncItem(name=name, account=item.account, total=len(left), left=left)
        await app.resyncs.write_item(resync.id, one)
    for one in await _job_items(resync, target, app):
        if one.name not in messages:  # of a listing that broke off: none of these was sent
            await app.resyncs.remove_item(resync.id, one.name)
    await app.resyncs.write_item(resync.id, replace(item, listed=True))
    await app.queues.send(messages.values())
    return counts


def _message_of(resync: Resync, item: ResyncItem, app: App) -> BackfillMessage:
    """Return a message with the jobs that are left of an item, by id alone."""
    return BackfillMessage(
        account=item.account,
        jobs=[{"id": job} for job in item.left],
        sent_at=app.clock(),
        trigger="resync",
        resync=resync.id,
        item=item.name,
        force=resync.request.force,
    )


async def _due(
    request: ResyncRequest, account: RelayAccount, app: App
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the jobs with work, reduced for a message, and counts to show."""
    if request.job:
        try:
            raw = await app.relay.jobs.read_job(account, request.job)
        except MissingError as error:
            raise no_such_job(request.job) from error
        return due_jobs([raw]), {"jobs": 1, "to_relay": 1}
    seen = {one.job: one for one in await app.relay.cursors.seen(account.key)}
    states = closed_states(skip_native=app.options.skip_native)
    closed = {job for job, one in seen.items() if one.relay_state in states}
    due: list[dict[str, Any]] = []
    listed = unusable = 0
    async for page in app.finder.pages(account):
        unusable += page.unusable
        covered = [raw for raw in page.items if _covered(raw, request.since)]
        listed += len(covered)
        due += due_jobs(
            # A parked job is tried at once: that is what was asked for.
            raw
            for raw in covered
            if request.force or raw.get("id") not in closed
        )
    counts = {"jobs": listed, "to_relay": len(due), "complete": listed - len(due)}
    return due, {**counts, "unusable": unusable} if unusable else counts


def _covered(raw: dict[str, Any], since: float | None) -> bool:
    created = raw.get("created_at")
    return since is None or not isinstance(created, int | float) or created >= since


async def _job_items(resync: Resync, account: ids.AccountId, app: App) -> list[ResyncItem]:
    found = await app.resyncs.read(resync.id)
    return [item for item in (found[1] if found else ()) if item.name.startswith(_prefix(account))]


async def jobs_done(message: RelayMessage, outcomes: list[JobOutcome], app: App) -> None:
    """Count the jobs of a message; those that may still succeed are sent again."""
    found = {one.job: one for one in outcomes}
    final: dict[str, AppError | None] = {}
    again: list[str] = []
    for job in message.job_ids:
        one = found.get(job)
        if one is None:
            final[job] = AppError("the job cannot be read")
        elif _may_pass(one) and message.attempt < len(_PAUSES_S):
            again.append(job)
        elif one.error or one.relay_state not in _FINE:
            final[job] = AppError(one.error or one.relay_state, remedy=one.remedy)
        else:
            final[job] = None
    await _finish(message, final, again, app)


def _may_pass(outcome: JobOutcome) -> bool:
    # `new` after an error: the run was lost, and the next pass starts another one.
    return (
        outcome.temporary
        or outcome.relay_state == "overtaken"
        or (bool(outcome.error) and outcome.relay_state == "new")
    )


async def jobs_left(message: RelayMessage, error: AppError, app: App) -> None:
    """Count the jobs of a message that could not be worked on at all as failed."""
    await _finish(message, dict.fromkeys(message.job_ids, error), [], app)


async def _finish(
    message: RelayMessage, final: Mapping[str, AppError | None], again: list[str], app: App
) -> None:
    resync = await app.resyncs.read_head(message.resync)
    item = await app.resyncs.read_item(message.resync, message.item)
    if resync is None or item is None:
        return
    if waiting := tuple(job for job in again if job in item.left):
        later = msgspec.structs.replace(
            _message_of(resync, replace(item, left=waiting), app), attempt=message.attempt + 1
        )
        await app.queues.send([later], delay_s=_PAUSES_S[message.attempt])
    counted = finish_jobs(item, final, now=app.clock())
    if counted != item:
        await app.resyncs.write_item(resync.id, counted)


async def give_up(message: Message, error: AppError, app: App) -> None:
    """End the part of a re-sync whose message is about to be set aside."""
    resync = await app.resyncs.read_head(message.resync) if message.resync else None
    if resync is None:
        return
    if isinstance(message, RelayMessage):
        await jobs_left(message, error, app)
    elif isinstance(message, ResyncMessage):
        spread = ResyncItem(name="accounts", account="")
        await _end(resync, spread, [failure(error)], app, failed=True)
        await app.resyncs.write(replace(resync, spread=True))
    elif isinstance(message, AccountMessage):
        name = _item_name(message.account)
        item = await app.resyncs.read_item(resync.id, name)
        if item is not None and item.state == "pending":
            await _end(resync, item, [failure(error)], app, failed=True)
