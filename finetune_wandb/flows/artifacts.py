"""The artifacts of finished jobs. Logging them is slow, so it is kept apart from the relay."""

import logging
from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.messages import ArtifactMessage
from finetune_wandb.model.work import Problem, Source
from finetune_wandb.relay.artifacts import ArtifactOutcome

log = logging.getLogger(__name__)

ARTIFACTS_BUDGET_S: Final = 480.0
"""A message ends by itself after this time; jobs that are left go on with a later message."""
_MOST_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 30.0
"""Doubled with each attempt: eight of them outlast two hours without W&B."""


async def handle(message: ArtifactMessage, app: App) -> list[ArtifactOutcome]:
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
    if waiting:
        same = ArtifactMessage(account=message.account, jobs=waiting, attempt=message.attempt)
        await app.queues.send([same], delay_s=_FIRST_PAUSE_S)
    if again:
        later = ArtifactMessage(account=message.account, jobs=again, attempt=message.attempt + 1)
        await app.queues.send([later], delay_s=_FIRST_PAUSE_S * 2**message.attempt)
    return outcomes
