"""Some jobs of one account: bring their runs up to date, and send on what follows from that."""

import logging
from itertools import batched
from typing import Final

from finetune_wandb.flows import resync_jobs
from finetune_wandb.flows.app import App
from finetune_wandb.flows.outcomes import report_job
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError, TemporaryError
from finetune_wandb.model.messages import ArtifactMessage, RelayMessage, key_message
from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.model.relay.state import CLOSED
from finetune_wandb.model.work import Problem, Source
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.closing import JOB_DELETED, beat_runs, close_runs
from finetune_wandb.relay.passes.job_pass import JobOutcome

log = logging.getLogger(__name__)

_NOT_RELAYED: Final = MissingError(
    "the account is not relayed", remedy="see its findings in /api/status"
)
_ARTIFACT_JOBS: Final = 8
"""Jobs of one artifact message: what they may take fits into a function's time."""


async def handle(message: RelayMessage, app: App) -> list[JobOutcome]:
    """Relay the jobs; each has its own outcome, stored with its cursor.

    A message that comes after newer ones finds its work done and leaves it. Raises TemporaryError
    when nothing could be recorded, so that the message comes again.
    """
    account = await app.accounts.find_for_relay(message.target)
    if account is None:
        if message.resync:
            await resync_jobs.jobs_left(message, _NOT_RELAYED, app)
        return []
    if message.trigger == "beat":
        named = [str(raw.get("id")) for raw in message.jobs]
        await beat_runs(account, named, ports=app.relay, clock=app.clock)
        return []
    jobs, failures = await _read_jobs(message, account, app)
    if not account.native_seen and any(job.wandb is not None for job in jobs):
        # Shows that the account was linked by hand in the portal.
        await app.accounts.mark_native_seen(account.id)
    outcomes = await relay_account(
        account,
        jobs,
        ports=app.relay,
        clock=app.clock,
        options=app.options,
        force=message.force,
        hurry=bool(message.resync),
        # Jobs that travel by id are read now.
        listed_at=message.sent_at if message.trigger == "timer" else None,
    )
    outcomes += failures
    if any(outcome.key_refused for outcome in outcomes):
        await _send_key(account, app)
    finished = [outcome.job for outcome in outcomes if outcome.wants_artifacts]
    for some in batched(finished, _ARTIFACT_JOBS, strict=False):
        await app.queues.send([ArtifactMessage(account=message.account, jobs=list(some))])
    for outcome in outcomes:
        report_job(outcome, account, app)
        if message.force and outcome.relay_state not in CLOSED:
            # The run was made anew: the timer has to follow the job to its end again.
            app.finder.forget(account.key, outcome.job)
    if message.resync:
        await resync_jobs.jobs_done(message, outcomes, app)
    return outcomes


async def _send_key(account: RelayAccount, app: App) -> None:
    """Have the account's key looked at, unless that was asked for a moment ago."""
    if not app.rejected_keys.is_due(account.secret, app.clock()):
        return
    trigger = "W&B refused the key in use"
    await app.queues.send([key_message(account.secret, trigger=trigger, now=app.clock())])


async def _read_jobs(
    message: RelayMessage, account: RelayAccount, app: App
) -> tuple[list[Job], list[JobOutcome]]:
    """Return the jobs, and why some could not be read; those that travelled by id are read.

    A job that a whole listing did not have and that answers 404 itself was deleted.
    """
    jobs: list[Job] = []
    failures: list[JobOutcome] = []
    for raw in message.jobs:
        if set(raw) == {"id"}:
            job_id = str(raw["id"])
            try:
                raw = await app.relay.jobs.read_job(account, job_id)
            except AppError as error:
                if message.trigger == "missing" and isinstance(error, MissingError):
                    now = app.clock()
                    await close_runs(account, app.relay, JOB_DELETED, now=now, jobs=[job_id])
                    continue
                # The next tick lists the job again.
                failures.append(
                    JobOutcome(
                        job_id,
                        "unread",
                        error=error.message,
                        remedy=error.remedy,
                        temporary=isinstance(error, TemporaryError),
                    )
                )
                await app.problems.note(
                    Problem(
                        source=Source.RELAY_JOBS,
                        subject=job_id,
                        cause=error.message,
                        remedy=error.remedy,
                    )
                )
                continue
        job = parse_job(raw)
        if job is not None:
            jobs.append(job)
    return jobs, failures
