"""The jobs of a re-sync: list them once, send them in small messages, count what came of them.

An account's jobs are first stored as items, then marked as listed, then sent: a host that dies
on the way finds what is still to be sent and never lists a second, different set.
"""

from dataclasses import replace
from typing import Any, Final

from finetune_wandb.flows.app import App
from finetune_wandb.model import ids
from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError
from finetune_wandb.model.messages import RelayMessage
from finetune_wandb.model.resync import JobFailure, Resync, ResyncItem, ResyncRequest, finish_jobs
from finetune_wandb.relay.passes import select
from finetune_wandb.relay.passes.finder import json_size
from finetune_wandb.relay.passes.outcome import JobOutcome

_FINE: Final = frozenset({"live", "ending", "complete", "skipped", "new"})
NO_JOB: Final = "the account has no such job"
NO_JOB_REMEDY: Final = "check the job's id and its account; deleted jobs cannot be relayed"
_PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 45.0, 120.0)
"""How long jobs wait that could not be finished for a passing reason."""


def _prefix(account: ids.AccountId) -> str:
    return f"jobs {account.key} "


async def send_jobs(resync: Resync, item: ResyncItem, app: App) -> dict[str, Any]:
    """Send the account's jobs that the request covers; return how many of which kind there are.

    Raises NoticeError where the account's jobs cannot be relayed at all.
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
        return await _send_stored(resync, account, app)
    jobs, counts = await _due(resync.request, account, app)
    if not resync.request.applies:
        return counts
    messages = select.messages(account, jobs, sent_at=app.clock(), trigger="resync", size=json_size)
    names = []
    for number, message in enumerate(messages):
        names.append(f"{_prefix(target)}{number:05d}")
        await app.resyncs.write_item(
            resync.id, _job_item(names[-1], item.account, [job["id"] for job in message["jobs"]])
        )
    await _drop_others(resync, target, set(names), app)
    await app.resyncs.write_item(resync.id, replace(item, listed=True))
    await app.relay_queue.send(
        message | _marks(resync, name) for message, name in zip(messages, names, strict=True)
    )
    return counts


def _job_item(name: str, account: str, jobs: list[str]) -> ResyncItem:
    return ResyncItem(name=name, account=account, total=len(jobs), left=tuple(jobs))


def _marks(resync: Resync, item: str, attempt: int = 0) -> dict[str, Any]:
    return {
        "resync": resync.id,
        "item": item,
        "force": resync.request.force,
        "attempt": attempt,
    }


async def _due(
    request: ResyncRequest, account: RelayAccount, app: App
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the jobs with work, reduced for a message, and counts for people."""
    if request.job:
        try:
            raw = await app.relay.jobs.read_job(account, request.job)
        except MissingError as error:
            raise MissingError(NO_JOB, subject=request.job, remedy=NO_JOB_REMEDY) from error
        return select.due_jobs([raw], {}, now=0), {"jobs": 1, "to_relay": 1}
    seen = {one.job: one for one in await app.relay.cursors.seen(account.key)}
    states = select.closed_states(skip_native=app.options.skip_native)
    closed = {job for job, one in seen.items() if one.relay_state in states}
    due: list[dict[str, Any]] = []
    listed = unusable = 0
    async for page in app.finder.pages(account):
        unusable += page.unusable
        covered = [raw for raw in page.items if _covered(raw, request.since)]
        listed += len(covered)
        due += select.due_jobs(
            # A parked job is tried at once: that is what the person asks for.
            (raw for raw in covered if request.force or raw.get("id") not in closed),
            {},
            now=0,
        )
    counts = {"jobs": listed, "to_relay": len(due), "complete": listed - len(due)}
    return due, {**counts, "unusable": unusable} if unusable else counts


def _covered(raw: dict[str, Any], since: float | None) -> bool:
    created = raw.get("created_at")
    if since is None or not isinstance(created, (int, float)):
        return True
    return created >= since


async def _drop_others(resync: Resync, account: ids.AccountId, names: set[str], app: App) -> None:
    """Remove items that a broken-off listing left behind; nothing was sent of them."""
    found = await app.resyncs.read(resync.id)
    for item in found[1] if found else ():
        if item.name.startswith(_prefix(account)) and item.name not in names:
            await app.resyncs.remove_item(resync.id, item.name)


async def _send_stored(resync: Resync, account: RelayAccount, app: App) -> dict[str, Any]:
    """Send again what an earlier try stored and may not have sent."""
    found = await app.resyncs.read(resync.id)
    items = [
        item for item in (found[1] if found else []) if item.name.startswith(_prefix(account.id))
    ]
    await app.relay_queue.send(
        _message(account.id, item.left, app) | _marks(resync, item.name)
        for item in items
        if item.left
    )
    return {"jobs": sum(item.total for item in items)}


def _message(account: ids.AccountId, jobs: tuple[str, ...], app: App) -> dict[str, Any]:
    """Return a message with jobs by id alone: whoever works on it reads them."""
    return {
        "account": str(account),
        "jobs": [{"id": job} for job in jobs],
        "sent_at": app.clock(),
        "trigger": "resync",
    }


async def jobs_done(message: RelayMessage, outcomes: list[JobOutcome], app: App) -> None:
    """Count a message of jobs that was worked on; what may still succeed is sent again."""
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


async def jobs_left(message: RelayMessage, error: AppError, app: App, *, advice: str = "") -> None:
    """Count a message of jobs that could not be worked on at all."""
    remedy = "; ".join(part for part in (error.remedy, advice) if part)
    why = JobFailure(error=error.message, remedy=remedy)
    await _finish(message, {str(raw.get("id")): why for raw in message.jobs}, [], app)


async def _finish(
    message: RelayMessage, final: dict[str, JobFailure | None], again: list[str], app: App
) -> None:
    resync = await app.resyncs.read_head(message.resync)
    item = await app.resyncs.read_item(message.resync, message.item)
    if resync is None or item is None:
        return
    if waiting := tuple(job for job in again if job in item.left):
        await app.relay_queue.send(
            [
                _message(message.account, waiting, app)
                | _marks(resync, item.name, message.attempt + 1)
            ],
            delay_s=_PAUSES_S[message.attempt],
        )
    counted = finish_jobs(item, final, now=app.clock())
    if counted != item:
        await app.resyncs.write_item(resync.id, counted)
