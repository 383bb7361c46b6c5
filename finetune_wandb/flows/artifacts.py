"""Queue trigger: log the artifacts of finished jobs. Slow, and apart from the relay for that."""

import logging
from typing import Final

import azure.functions as func

from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model.messages import ArtifactMessage, read_artifacts
from finetune_wandb.model.problem import Problem
from finetune_wandb.relay.artifacts.log import ArtifactOutcome, log_artifacts

log = logging.getLogger(__name__)

NAME: Final = "job_artifacts"
QUEUE: Final = "job-artifacts"
_MOST_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 30.0
"""Doubled with each attempt: eight of them reach over about two hours of W&B being away."""


async def handle(message: ArtifactMessage, app: App) -> list[ArtifactOutcome]:
    """Log the jobs' artifacts. A job whose artifacts fail keeps its metrics; the cause is shown.

    What another try can mend is sent again, later. Raises TemporaryError when nothing could be
    begun, so that the message comes again.
    """
    account = await app.accounts.find_for_relay(message.account)
    if account is None:
        return []
    outcomes = await log_artifacts(
        account,
        message.jobs,
        ports=app.relay,
        artifacts=app.artifacts,
        options=app.options,
        clock=app.clock,
        with_content=app.settings.datasets == "content",
    )
    again: list[str] = []
    for outcome in outcomes:
        if not outcome.error:
            continue
        log.warning("job %s: artifacts: %s", outcome.job, outcome.error)
        if outcome.again and message.attempt < _MOST_ATTEMPTS:
            again.append(outcome.job)
        else:
            await app.problems.note(_problem(outcome))
    if again:
        later = {"account": str(account.id), "jobs": again, "attempt": message.attempt + 1}
        pause = _FIRST_PAUSE_S * 2**message.attempt
        await app.artifact_queue.send([later], delay_s=pause)
    return outcomes


def _problem(outcome: ArtifactOutcome) -> Problem:
    return Problem(
        source=NAME,
        subject=outcome.job,
        cause=f"artifacts were not logged: {outcome.error}",
        remedy="re-sync the job with force to try again",
    )


async def receive(message: func.QueueMessage, deps: Deps) -> None:
    """Handle one message of the queue."""
    await handle(read_artifacts(message.get_body()), await deps.app())
