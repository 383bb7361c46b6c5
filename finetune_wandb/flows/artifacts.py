"""The artifacts of finished jobs. Logging them is slow, so it is kept apart from the relay."""

import logging
from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.messages import ArtifactMessage
from finetune_wandb.model.problem import Problem, Source
from finetune_wandb.relay.artifacts.log import ArtifactOutcome, log_artifacts

log = logging.getLogger(__name__)

_MOST_ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 30.0
"""Doubled with each attempt: eight of them outlast two hours without W&B."""


async def handle(message: ArtifactMessage, app: App) -> list[ArtifactOutcome]:
    """Log the jobs' artifacts. A job whose artifacts fail keeps its metrics; the cause is shown.

    Jobs for which another try can help are sent again, later. Raises TemporaryError when nothing
    could be begun, so that the message comes again.
    """
    account = await app.accounts.find_for_relay(message.target)
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
            await app.problems.note(
                Problem(
                    source=Source.JOB_ARTIFACTS,
                    subject=outcome.job,
                    cause=f"artifacts were not logged: {outcome.error}",
                    remedy="re-sync the job with force to try again",
                )
            )
    if again:
        later = ArtifactMessage(account=message.account, jobs=again, attempt=message.attempt + 1)
        await app.queues.send([later], delay_s=_FIRST_PAUSE_S * 2**message.attempt)
    return outcomes
