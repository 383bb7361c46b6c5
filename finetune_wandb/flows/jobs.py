"""Some jobs of one account: bring their runs up to date, and send on what follows from that.

The artifacts of finished jobs have messages of their own: logging them is slow.
"""

import logging
from contextlib import suppress
from itertools import batched
from typing import Final

from finetune_wandb.flows import resync
from finetune_wandb.flows.app import App
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError, TemporaryError
from finetune_wandb.model.messages import ArtifactMessage, RelayMessage, key_message
from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.model.relay.state import CLOSED
from finetune_wandb.model.telemetry import Attribute, pairs
from finetune_wandb.model.work import Problem, Source, problem_of
from finetune_wandb.relay.artifacts import ArtifactOutcome
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.closing import JOB_DELETED, beat_runs, close_runs
from finetune_wandb.relay.passes.job_pass import JobOutcome

log = logging.getLogger(__name__)

_ARTIFACT_JOBS: Final = 8
"""Jobs of one artifact message: what they may take fits into a function's time."""
ARTIFACTS_BUDGET_S: Final = 480.0
"""A message ends by itself after this time; jobs that are left go on with a later message."""
_MOST_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 30.0
"""Doubled with each attempt: eight of them outlast two hours without W&B."""


async def handle(message: RelayMessage, app: App) -> list[JobOutcome]:
    """Relay the jobs; each has its own outcome, stored with its cursor.

    A message that comes after newer ones finds its work done and leaves it. Raises TemporaryError
    when nothing could be recorded, so that the message comes again.
    """
    account = await app.accounts.find_for_relay(message.target)
    if account is None:
        if message.resync:
            remedy = "see its findings in /api/status"
            why = MissingError("the account is not relayed", remedy=remedy)
            await resync.jobs_left(message, why, app)
        return []
    if message.trigger == "beat":
        await beat_runs(account, message.job_ids, ports=app.relay, clock=app.clock)
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
    if any(outcome.key_refused for outcome in outcomes) and app.rejected_keys.is_due(
        account.secret, app.clock()
    ):
        trigger = "W&B refused the key in use"
        await app.queues.send([key_message(account.secret, trigger=trigger, now=app.clock())])
    finished = [outcome.job for outcome in outcomes if outcome.wants_artifacts]
    for some in batched(finished, _ARTIFACT_JOBS, strict=False):
        await app.queues.send([ArtifactMessage(account=message.account, jobs=list(some))])
    for outcome in outcomes:
        report_job(outcome, account, app)
        if message.force and outcome.relay_state not in CLOSED:
            # The run was made anew: the timer has to follow the job to its end again.
            app.finder.forget(account.key, outcome.job)
    if message.resync:
        await resync.jobs_done(message, outcomes, app)
    return outcomes


async def _read_jobs(
    message: RelayMessage, account: RelayAccount, app: App
) -> tuple[list[Job], list[JobOutcome]]:
    """Return the jobs, and why some could not be read; those that travelled by id are read.

    A job that a whole listing did not have and that answers 404 itself was deleted.
    """
    jobs: list[Job] = []
    failures: list[JobOutcome] = []
    noted: list[Problem] = []
    if any(set(raw) == {"id"} for raw in message.jobs):
        problems = await app.problems.list_all()
        noted = [one for one in problems if one.source == Source.RELAY_JOBS]
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
                why, remedy = error.message, error.remedy
                may_pass = isinstance(error, TemporaryError)
                failures.append(
                    JobOutcome(job_id, "unread", error=why, remedy=remedy, temporary=may_pass)
                )
                await app.problems.note(problem_of(error, Source.RELAY_JOBS, job_id))
                continue
            for problem in noted:
                if problem.subject == job_id:
                    await app.problems.clear(problem)
        if job := parse_job(raw):
            jobs.append(job)
    if failures:
        with suppress(AppError):  # their runs are not to be taken for crashed ones
            unread = [outcome.job for outcome in failures]
            await beat_runs(account, unread, ports=app.relay, clock=app.clock)
    return jobs, failures


def report_job(outcome: JobOutcome, account: RelayAccount, app: App) -> None:
    """Report what came of one job in one pass."""
    telemetry = app.telemetry
    state = outcome.relay_state
    attributes: dict[str, Attribute] = {
        "azure.account.id": account.key,
        "finetune.job.id": outcome.job,
        "relay.state": state,
        "relay.values": outcome.values,
    }
    with telemetry.span("relay job", **attributes) as span:
        if outcome.error:
            span.fail(outcome.error)
    telemetry.count("relay.passes", 1, state=state, failed=bool(outcome.error))
    if outcome.values:
        telemetry.count("relay.values", outcome.values, account=account.name)
        if outcome.lag_s is not None:
            telemetry.measure("relay.lag", outcome.lag_s, account=account.name)
    line = pairs(
        state=state,
        account=account.key,
        values=outcome.values,
        lag_s=None if outcome.lag_s is None else round(outcome.lag_s, 1),
        error=outcome.error,
        remedy=outcome.remedy,
    )
    if outcome.error:
        log.warning("job %s: %s", outcome.job, line)
    elif outcome.values or state == "complete":
        log.info("job %s: %s", outcome.job, line)


async def log_artifacts(message: ArtifactMessage, app: App) -> list[ArtifactOutcome]:
    """Log the jobs' artifacts. A job whose artifacts fail keeps its metrics; the cause is shown
    until a later try succeeds.

    Jobs for which another try can help are sent again, later. Raises our errors when storage does
    not answer, so that the message comes again.
    """
    account = await app.accounts.find_for_relay(message.target)
    if account is None:
        return []
    outcomes = await app.artifacts.log(account, message.jobs, budget_s=ARTIFACTS_BUDGET_S)
    again: list[str] = []
    waiting: list[str] = []
    for outcome in outcomes:
        problem = Problem(
            source=Source.JOB_ARTIFACTS,
            subject=outcome.job,
            cause="artifacts were not logged",
            remedy=f"{outcome.error}; re-sync the job with force to try again",
        )
        if not outcome.error:
            await app.problems.clear(problem)
            continue
        log.warning("job %s: artifacts: %s", outcome.job, outcome.error)
        if not outcome.begun:
            waiting.append(outcome.job)
        elif outcome.again and message.attempt < _MOST_ATTEMPTS:
            again.append(outcome.job)
        else:
            await app.problems.note(problem)
    tries = message.attempt
    for jobs, attempt, pause in ((waiting, tries, 1), (again, tries + 1, 2**tries)):
        if jobs:
            later = ArtifactMessage(account=message.account, jobs=jobs, attempt=attempt)
            await app.queues.send([later], delay_s=_FIRST_PAUSE_S * pause)
    return outcomes
