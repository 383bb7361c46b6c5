"""Says in the status that a message is set aside, whatever its work failed of."""

from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.problem import Problem

ADVICE: Final = (
    "its message is set aside in the queue's poison queue: once the cause is gone, POST"
    ' /api/resync {"scope": "all"} takes it up again'
)


async def tell(error: Exception, app: App, *, source: str, subject: str) -> AppError:
    """Record the problem; return the error as one of ours, to be said elsewhere too."""
    if not isinstance(error, AppError):
        # Its text may be anything; the traceback is in the log.
        error = AppError(f"unexpected {type(error).__name__}", remedy="look into the app's log")
    remedy = f"{error.remedy}; {ADVICE}" if error.remedy else ADVICE
    await app.problems.note(
        Problem(source=source, subject=subject, cause=error.message, remedy=remedy)
    )
    return error
