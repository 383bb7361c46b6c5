"""Queue triggers: read the message, do its work, keep the cause of what failed for good.

A message that cannot be read is acknowledged: no other try would read it. One that fails at its
last try goes to the poison queue; its cause is in the status by then, and its re-sync has ended.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import azure.functions as func

from finetune_wandb.flows import account, artifacts, jobs, key, resync
from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model.errors import AppError, NoticeError
from finetune_wandb.model.messages import (
    AccountMessage,
    KeyMessage,
    Message,
    ReconcileMessage,
    ResyncMessage,
    read_artifacts,
    read_backfill,
    read_reconcile,
    read_relay,
)
from finetune_wandb.model.problem import Problem, Source
from finetune_wandb.model.telemetry import Attribute

log = logging.getLogger(__name__)

LAST_TRY: Final = 5
"""`maxDequeueCount` of host.json: a message that fails this time is set aside."""
ADVICE: Final = (
    "its message is in the poison queue: once the cause is fixed, POST /api/resync"
    ' {"scope": "all"} puts it back on its queue'
)


@dataclass(frozen=True, slots=True)
class Queue[M: Message]:
    """What a queue function does with one message."""

    source: Source
    read: Callable[[bytes | str], M]
    handle: Callable[[M, App], Awaitable[object]]


async def reconcile(message: ReconcileMessage, app: App) -> None:
    """Check an account, prove a key, spread a re-sync, or empty the poison queues."""
    match message:
        case AccountMessage() if message.resync:
            await resync.handle_account(message, app)
        case AccountMessage():
            await account.handle(message, app)
        case KeyMessage():
            await key.handle(message, app)
        case ResyncMessage():
            await resync.spread(message, app)
        case _:
            if moved := await app.queues.requeue():
                log.info("%d messages are back on their queues", moved)


RECONCILE: Final = Queue(Source.RECONCILE_ACCOUNT, read_reconcile, reconcile)
RELAY: Final = Queue(Source.RELAY_JOBS, read_relay, jobs.handle)
BACKFILL: Final = Queue(Source.BACKFILL_JOBS, read_backfill, jobs.handle)
ARTIFACTS: Final = Queue(Source.JOB_ARTIFACTS, read_artifacts, artifacts.handle)


async def handle[M: Message](raw: func.QueueMessage, queue: Queue[M], deps: Deps) -> None:
    """Handle one delivery of a message. Raises for work that must be tried again."""
    app = await deps.app()
    try:
        message = queue.read(raw.get_body())
    except NoticeError as error:
        remedy = error.remedy or "check which sender writes to the app's queues"
        await _note(error.message, remedy, error.subject, queue.source, app)
        return
    attributes: dict[str, Attribute] = {"trigger": message.trigger, "subject": message.subject}
    try:
        with app.telemetry.span(queue.source, **attributes):
            await queue.handle(message, app)
    except Exception as error:  # raised again: an unexpected error must reach the status too
        if (raw.dequeue_count or 0) >= LAST_TRY:
            cause = _as_ours(error)
            await _note(cause.message, cause.remedy, message.subject, queue.source, app)
            await resync.give_up(message, cause, app)
        raise


def _as_ours(error: Exception) -> AppError:
    """Return the error with the advice how to repeat its message."""
    if not isinstance(error, AppError):
        # Its text may be anything; the traceback is in the log.
        return AppError(
            f"unexpected {type(error).__name__}", remedy=f"look at the app's log; {ADVICE}"
        )
    remedy = f"{error.remedy}; {ADVICE}" if error.remedy else ADVICE
    return AppError(error.message, subject=error.subject, code=error.code, remedy=remedy)


async def _note(cause: str, remedy: str, subject: str, source: Source, app: App) -> None:
    await app.problems.note(Problem(source=source, subject=subject, cause=cause, remedy=remedy))
