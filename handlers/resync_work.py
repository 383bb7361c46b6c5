"""The work of a re-sync on the queues: spread it, do an account's part, count a job's part.

Goes through the same code as the automatic path. Every item is a row of its own that is written
whole, so that work done twice is counted once and a killed host loses nothing.
"""

from dataclasses import replace
from typing import Any, Final

from handlers.account_work import check_account
from handlers.deps import App
from model import ids
from model.errors import AppError, TemporaryError
from model.messages import ReconcileMessage, RelayMessage
from model.resync import Resync, ResyncItem
from relay import select
from relay.finder import json_size
from relay.run import JobOutcome

_FINE: Final = frozenset({"live", "ending", "complete", "skipped", "overtaken", "new"})
_MOST_RESULTS: Final = 40


def account_item(account: str) -> str:
    return f"account {account.lower()}"


async def spread(resync_id: str, app: App) -> None:
    """Make an item and a message for each account of the request."""
    found = await app.resyncs.read(resync_id)
    if found is None or found[0].spread:
        return
    resync, _ = found
    for account in await _accounts(resync, app):
        await app.resyncs.add_item(
            resync.id, ResyncItem(name=account_item(account), account=account)
        )
        await app.reconcile_queue.send(
            [
                ReconcileMessage(
                    kind="account",
                    account=account,
                    trigger="resync",
                    sent_at=app.clock(),
                    apply=resync.request.applies,
                    resync=resync.id,
                ).to_json()
            ]
        )
    await app.resyncs.write(replace(resync, spread=True))


async def _accounts(resync: Resync, app: App) -> list[str]:
    request = resync.request
    if request.scope != "all":
        return [request.account]
    accounts = {
        entry.key: str(entry.id) for entry in await app.accounts.list_all() if not entry.deleted
    }
    if "integration" in request.parts:
        for subscription in app.settings.azure_subscription_ids:
            async for account in app.reconcile.accounts.list_ids(subscription):
                accounts.setdefault(account.key, str(account))
    return sorted(accounts.values())


async def account(message: ReconcileMessage, app: App) -> None:
    """Do an account's part: check or mend it, then send its jobs."""
    found = await app.resyncs.read(message.resync)
    if found is None:
        return
    resync, _ = found
    item = ResyncItem(name=account_item(message.account), account=message.account)
    results: list[dict[str, Any]] = []
    try:
        if "integration" in resync.request.parts:
            report = await check_account(message, app)
            results.append(
                {
                    "healthy": report.healthy,
                    "findings": [one.to_json() for one in report.findings if one.severity != "ok"],
                    "plan": [step.to_json() for step in report.plan],
                    "steps": [outcome.to_json() for outcome in report.steps],
                }
            )
        if "jobs" in resync.request.parts:
            results.append({"jobs": await _send_jobs(resync, message.account, app)})
    except TemporaryError:
        raise
    except AppError as error:
        results.append({"error": error.message, "remedy": error.remedy})
        await app.resyncs.write_item(
            resync.id, replace(item, state="failed", failed=1, results=results)
        )
        return
    await app.resyncs.write_item(resync.id, replace(item, state="done", done=1, results=results))


async def _send_jobs(resync: Resync, account_id: str, app: App) -> int:
    """Send the account's jobs that the request covers; return how many there are."""
    target = ids.parse_account_id(account_id)
    entry = next(
        (one for one in await app.accounts.list_for_relay() if one.key == target.key), None
    )
    if entry is None:
        return 0
    request = resync.request
    jobs: list[dict[str, Any]] = []
    if request.job:
        jobs = [await app.relay.jobs.read_job(entry, request.job)]
    else:
        async for page in app.finder.pages(entry):
            jobs += [raw for raw in page if _covered(raw, request.since)]
    if not request.applies:
        return len(jobs)
    seen = (
        {}
        if request.force or request.job
        else {one.job: one for one in await app.relay.cursors.seen(entry.key)}
    )
    # A parked job is tried at once: that is what the person asks for.
    due = select.due_jobs(jobs, seen, now=float("inf"))
    messages = select.messages(entry, due, sent_at=app.clock(), trigger="resync", size=json_size)
    for number, message in enumerate(messages):
        first = message["jobs"][0]["id"]
        item = ResyncItem(
            name=f"jobs {target.key} {number:05d} {first}",
            account=account_id,
            total=len(message["jobs"]),
        )
        message |= {"resync": resync.id, "item": item.name, "force": True}
        await app.resyncs.add_item(resync.id, item)
    await app.relay_queue.send(messages)
    return len(jobs)


def _covered(raw: dict[str, Any], since: float | None) -> bool:
    created = raw.get("created_at")
    if since is None or not isinstance(created, (int, float)):
        return True
    return created >= since


async def jobs_done(message: RelayMessage, outcomes: list[JobOutcome], app: App) -> None:
    """Count a message of jobs that was worked on."""
    if not message.resync:
        return
    failed = [one for one in outcomes if one.error or one.relay_state not in _FINE]
    await app.resyncs.write_item(
        message.resync,
        ResyncItem(
            name=message.item,
            account=str(message.account),
            state="failed" if failed else "done",
            total=len(message.jobs),
            done=len(message.jobs) - len(failed),
            failed=len(failed),
            results=[
                {"job": one.job, "error": one.error, "remedy": one.remedy}
                for one in failed[:_MOST_RESULTS]
            ],
        ),
    )


async def jobs_left(message: RelayMessage, reason: str, app: App) -> None:
    """Count a message of jobs that could not be worked on at all."""
    outcomes = [JobOutcome(str(raw.get("id")), "new", error=reason) for raw in message.jobs]
    await jobs_done(message, outcomes, app)
