"""Queue trigger: log the artifacts of finished jobs. Slow, and apart from the relay for that."""

import logging
from typing import Final

import azure.functions as func

from handlers.deps import App, Deps
from model.messages import ArtifactMessage, read_artifacts
from model.problem import Problem
from relay.artifacts import ArtifactOutcome, log_artifacts

log = logging.getLogger(__name__)

NAME: Final = "job_artifacts"
QUEUE: Final = "job-artifacts"


async def handle(message: ArtifactMessage, app: App) -> list[ArtifactOutcome]:
    """Log the jobs' artifacts. A job whose artifacts fail keeps its metrics; the cause is shown.

    Raises TemporaryError when the whole message must come again.
    """
    account = next(
        (one for one in await app.accounts.list_for_relay() if one.key == message.account.key), None
    )
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
    for outcome in outcomes:
        if outcome.error:
            log.warning("job %s: artifacts: %s", outcome.job, outcome.error)
            await app.problems.note(
                Problem(
                    source=NAME,
                    subject=outcome.job,
                    cause=f"artifacts were not logged: {outcome.error}",
                    remedy="re-sync the job with force to try again",
                )
            )
    return outcomes


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()

    @bp.function_name(NAME)
    @bp.queue_trigger(arg_name="message", queue_name=QUEUE, connection="AzureWebJobsStorage")
    async def trigger(message: func.QueueMessage) -> None:
        await handle(read_artifacts(message.get_body()), await deps.app())

    return bp
