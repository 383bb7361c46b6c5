"""Queue triggers: read the message, do its work, keep the cause of what failed for good.

A message that cannot be read is acknowledged: no other try would read it. One that fails at its
last try is kept with its cause, and its re-sync has ended, before the host gives it up.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import azure.functions as func

from finetune_wandb.flows import account, artifacts, jobs, key, resync, work
from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model import queues
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
from finetune_wandb.model.telemetry import Attribute
from finetune_wandb.model.work import Problem, Source, work_of
from handlers import budgets

log = logging.getLogger(__name__)

LAST_TRY: Final = 5
"""`maxDequeueCount` of host.json: a message that fails this time is set aside."""


@dataclass(frozen=True, slots=True)
class Queue[M: Message]:
    """What a queue function does with one message."""

    name: str
    source: Source
    read: Callable[[bytes | str], M]
    handle: Callable[[M, App], Awaitable[object]]
    budget_s: float


async def reconcile(message: ReconcileMessage, app: App) -> None:
    """Check an account, prove a key, spread a re-sync, or put back what was set aside."""
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
            if moved := await work.put_back(app):
                log.info("%d messages are back on their queues", moved)


RECONCILE: Final = Queue(
    queues.RECONCILE,
    Source.RECONCILE_ACCOUNT,
    read_reconcile,
    reconcile,
    budgets.RECONCILE_S,
)
RELAY: Final = Queue(queues.RELAY, Source.RELAY_JOBS, read_relay, jobs.handle, budgets.RELAY_S)
BACKFILL: Final = Queue(
    queues.BACKFILL, Source.BACKFILL_JOBS, read_backfill, jobs.handle, budgets.RELAY_S
)
ARTIFACTS: Final = Queue(
    queues.ARTIFACTS,
    Source.JOB_ARTIFACTS,
    read_artifacts,
    artifacts.handle,
    budgets.ARTIFACTS_S,
)


async def handle[M: Message](raw: func.QueueMessage, queue: Queue[M], deps: Deps) -> None:
    """Handle one delivery of a message. Raises for work that must be tried again."""
    app = await deps.app()
    body = raw.get_body()
    try:
        message = queue.read(body)
    except NoticeError as error:
        remedy = error.remedy or "check which sender writes to the app's queues"
        problem = Problem(
            source=queue.source, subject=error.subject, cause=error.message, remedy=remedy
        )
        await app.problems.note(problem)
        return
    attributes: dict[str, Attribute] = {"trigger": message.trigger, "subject": message.subject}
    known = work_of(queue.name, body)
    try:
        with app.telemetry.span(queue.source, **attributes):
            async with budgets.within(queue.budget_s, app, queue.source, message.subject):
                if work.is_sent_by_tick(message):
                    await queue.handle(message, app)
                    return
                async with work.begun(str(raw.id), known, app) as is_wanted:
                    if is_wanted:
                        await queue.handle(message, app)
    except Exception as error:  # raised again: an unexpected error must reach the status too
        if (raw.dequeue_count or 0) >= LAST_TRY:
            await work.set_aside(known, _as_ours(error), app)
        raise


def _as_ours(error: Exception) -> AppError:
    if isinstance(error, AppError):
        return error
    # Its text may be anything; the traceback is in the log.
    return AppError(f"unexpected {type(error).__name__}", remedy="look at the app's log")
