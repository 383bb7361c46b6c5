"""The jobs of a re-sync: list them once, send them in small messages, count what came of them.

An account's jobs are first stored as items, then marked as listed, then sent: a host that dies
on the way finds what is still to be sent and never lists a second, different set.
"""

from dataclasses import replace
from typing import Any, Final

import msgspec

from finetune_wandb.flows.app import App
from finetune_wandb.model import ids
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError
from finetune_wandb.model.messages import BackfillMessage, RelayMessage
from finetune_wandb.model.resync import JobFailure, Resync, ResyncItem, ResyncRequest, finish_jobs
from finetune_wandb.relay.passes.finder import closed_states, due_jobs, job_messages
from finetune_wandb.relay.passes.job_pass import JobOutcome

_FINE: Final = frozenset({"live", "ending", "complete", "skipped", "new"})
NO_JOB: Final = "the account has no such job"
NO_JOB_REMEDY: Final = "check the job's id and its account; deleted jobs cannot be relayed"
_PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 45.0, 120.0)
"""How long jobs wait that failed for a temporary reason, by attempt."""


def _prefix(account: ids.AccountId) -> str:
    return f"jobs {account.key} "


async def send_jobs(resync: Resync, item: ResyncItem, app: App) -> dict[str, Any]:
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
        return await _send_stored(resync, target, app)
    jobs, counts = await _due(resync.request, account, app)
    if not resync.request.applies:
        return counts
    now = app.clock()
    messages = [
        msgspec.structs.replace(
            message,
            resync=resync.id,
            item=f"{_prefix(target)}{number:05d}",
            force=resync.request.force,
        )
        for number, message in enumerate(
            job_messages(account, jobs, BackfillMessage, sent_at=now, trigger="resync")
        )
    ]
    for message in messages:
        left = tuple(str(job["id"]) for job in message.jobs)
        await app.resyncs.write_item(
            resync.id,
            ResyncItem(name=message.item, account=item.account, total=len(left), left=left),
        )
    await _drop_others(resync, target, {message.item for message in messages}, app)
    await app.resyncs.write_item(resync.id, replace(item, listed=True))
    await app.queues.send(messages)
    return counts


def message_of(resync: Resync, item: ResyncItem, app: App) -> BackfillMessage:
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
            raise MissingError(NO_JOB, subject=request.job, remedy=NO_JOB_REMEDY) from error
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
    if since is None or not isinstance(created, (int, float)):
        return True
    return created >= since


async def _job_items(resync: Resync, account: ids.AccountId, app: App) -> list[ResyncItem]:
    found = await app.resyncs.read(resync.id)
    return [item for item in (found[1] if found else ()) if item.name.startswith(_prefix(account))]


async def _drop_others(resync: Resync, account: ids.AccountId, names: set[str], app: App) -> None:
    """Remove items of a listing that broke off; none of them was sent."""
    for item in await _job_items(resync, account, app):
        if item.name not in names:
            await app.resyncs.remove_item(resync.id, item.name)


async def _send_stored(resync: Resync, account: ids.AccountId, app: App) -> dict[str, Any]:
    """Send again what an earlier try stored and may not have sent."""
    items = await _job_items(resync, account, app)
    await app.queues.send(message_of(resync, item, app) for item in items if item.left)
    return {"jobs": sum(item.total for item in items)}


async def jobs_done(message: RelayMessage, outcomes: list[JobOutcome], app: App) -> None:
    """Count the jobs of a message; those that may still succeed are sent again."""
    found = {one.job: one for one in outcomes}
    final: dict[str, JobFailure | None] = {}
    again: list[str] = []
    for raw in message.jobs:
        job = str(raw.get("id"))
        one = found.get(job)
        if one is None:
            final[job] = JobFailure(error="the job cannot be read")
        elif _may_pass(one) and message.attempt < len(_PAUSES_S):
            again.append(job)
        elif one.error or one.relay_state not in _FINE:
            final[job] = JobFailure(error=one.error or one.relay_state, remedy=one.remedy)
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
    why = JobFailure(error=error.message, remedy=error.remedy)
    await _finish(message, {str(raw.get("id")): why for raw in message.jobs}, [], app)


async def _finish(
    message: RelayMessage, final: dict[str, JobFailure | None], again: list[str], app: App
) -> None:
    resync = await app.resyncs.read_head(message.resync)
    item = await app.resyncs.read_item(message.resync, message.item)
    if resync is None or item is None:
        return
    if waiting := tuple(job for job in again if job in item.left):
        later = msgspec.structs.replace(
            message_of(resync, replace(item, left=waiting), app), attempt=message.attempt + 1
        )
        await app.queues.send([later], delay_s=_PAUSES_S[message.attempt])
    counted = finish_jobs(item, final, now=app.clock())
    if counted != item:
        await app.resyncs.write_item(resync.id, counted)
