"""Queue trigger: bring the runs of some jobs of one account up to date."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import azure.functions as func

from finetune_wandb.flows import resync_jobs, set_aside
from finetune_wandb.flows.app import LAST_TRY, App, Deps
from finetune_wandb.flows.outcomes import tell_job
from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError, TemporaryError
from finetune_wandb.model.job import Job
from finetune_wandb.model.job_object import parse_job
from finetune_wandb.model.messages import ReconcileMessage, RelayMessage, read_relay
from finetune_wandb.model.problem import Problem
from finetune_wandb.model.telemetry import Attribute
from finetune_wandb.relay.passes import select
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.outcome import JobOutcome

log = logging.getLogger(__name__)

NAME: Final = "relay_jobs"
QUEUE: Final = "relay-jobs"
_NOT_OURS: Final = MissingError(
    "the account is not looked after", remedy="see its findings in /api/status"
)
_STALE_S: Final = 600.0
"""A tick's message older than this is left: newer ticks have sent the same jobs since."""


async def handle(message: RelayMessage, app: App) -> list[JobOutcome]:
    """Relay the jobs; each has its own outcome, stored with its cursor.

    Raises TemporaryError when nothing could be recorded, so that the message comes again.
    """
    if message.trigger == "timer" and app.clock() - message.sent_at > _STALE_S:
        return []
    account = await app.accounts.find_for_relay(message.account)
    if account is None:
        if message.resync:
            await resync_jobs.jobs_left(message, _NOT_OURS, app)
        return []
    jobs, failures = await _jobs(message.jobs, account, app)
    if not account.native_seen and any(job.wandb is not None for job in jobs):
        # Shows that somebody linked the account by hand in the portal.
        await app.accounts.mark_native_seen(account.id)
    outcomes = await relay_account(
        account,
        jobs,
        ports=app.relay,
        clock=app.clock,
        options=app.options,
        force=message.force,
        hurry=bool(message.resync),
    )
    outcomes += failures
    if any(outcome.key_refused for outcome in outcomes) and app.refused_keys.is_due(
        account.secret, app.clock()
    ):
        await app.reconcile_queue.send(
            [
                ReconcileMessage(
                    kind="key",
                    secret=account.secret,
                    trigger="W&B refused the key in use",
                    sent_at=app.clock(),
                ).to_json()
            ]
        )
    if finished := [outcome.job for outcome in outcomes if outcome.wants_artifacts]:
        await app.artifact_queue.send([{"account": str(account.id), "jobs": finished}])
    for outcome in outcomes:
        tell_job(outcome, account, app)
        if message.force and outcome.relay_state not in select.CLOSED:
            # The run was made anew: the timer has to see to the job's end again.
            app.finder.forget(account.key, outcome.job)
    if message.resync:
        await resync_jobs.jobs_done(message, outcomes, app)
    return outcomes


async def run(message: RelayMessage, tries: int | None, app: App) -> None:
    """Handle a message; at its last try say in status and re-sync that it is set aside."""
    attributes: dict[str, Attribute] = {
        "azure.account.id": message.account.key,
        "relay.jobs": len(message.jobs),
    }
    try:
        with app.telemetry.span("relay jobs", **attributes):
            await handle(message, app)
    except Exception as error:  # raised on: what nobody thought of must not be in a log alone
        if (tries or 0) >= LAST_TRY:
            told = await set_aside.tell(error, app, source=NAME, subject=str(message.account))
            if message.resync:
                await resync_jobs.jobs_left(message, told, app, advice=set_aside.ADVICE)
        raise


async def _jobs(
    listed: Sequence[dict[str, Any]], account: RelayAccount, app: App
) -> tuple[list[Job], list[JobOutcome]]:
    """Return the jobs; those that travelled by id alone are read."""
    jobs: list[Job] = []
    failures: list[JobOutcome] = []
    for raw in listed:
        if set(raw) == {"id"}:
            try:
                raw = await app.relay.jobs.read_job(account, str(raw["id"]))
            except AppError as error:
                # The next tick lists the job again.
                failures.append(
                    JobOutcome(
                        str(raw["id"]),
                        "unread",
                        error=error.message,
                        remedy=error.remedy,
                        temporary=isinstance(error, TemporaryError),
                    )
                )
                await app.problems.note(
                    Problem(
                        source=NAME,
                        subject=str(raw["id"]),
                        cause=error.message,
                        remedy=error.remedy,
                    )
                )
                continue
        job = parse_job(raw)
        if job is not None:
            jobs.append(job)
    return jobs, failures


async def receive(message: func.QueueMessage, deps: Deps) -> None:
    """Handle one message of the queue."""
    await run(read_relay(message.get_body()), message.dequeue_count, await deps.app())
