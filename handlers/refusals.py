"""What becomes of input that cannot be used: acknowledged, and reported once in the status."""

import logging

from handlers.deps import App
from model.errors import NoticeError
from model.problem import Problem

log = logging.getLogger(__name__)


async def refuse(app: App, source: str, error: NoticeError, *, subject: str = "") -> None:
    """Record why input was refused; log it when it is the first of its kind.

    `subject` is an id or a type that was checked for length; never a body.
    """
    problem = Problem(
        source=source,
        subject=(subject or error.subject)[:200],
        cause=error.message,
        remedy=error.remedy or "check who sends these to the function app",
    )
    if await app.problems.note(problem):
        log.warning("%s refused %s: %s", source, problem.subject, problem.cause)
