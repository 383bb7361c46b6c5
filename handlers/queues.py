"""Queue triggers: read the message, do its work, keep the cause of a permanent failure.

A message that cannot be read is acknowledged, since a retry would not help. One that fails at its
last try is set aside with its cause, and its part of a re-sync ended, before the host gives it up.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import azure.functions as func

from finetune_wandb.flows import account, jobs, key, resync, work
from finetune_wandb.flows.app import App, Deps
from finetune_wandb.model.errors import AppError, NoticeError
from finetune_wandb.model.messages import (
    AccountMessage,
    KeyMessage,
    Message,
    ReconcileMessage,
    ResyncMessage,
    read_message,
)
from finetune_wandb.model.work import (
    ARTIFACTS,
    BACKFILL,
    QUEUES,
    RECONCILE,
    RELAY,
    problem_of,
    work_of,
)
from handlers import budgets

log = logging.getLogger(__name__)

LAST_TRY: Final = 5
"""`maxDequeueCount` of host.json: a message that fails this time is set aside."""


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


@dataclass(frozen=True, slots=True)
class Queue:
    """What a queue function does with one message, and how long it may take."""

    name: str
    handle: Callable[[Any, App], Awaitable[object]]
    budget_s: float


BY_NAME: Final = {
    queue.name: queue
    for queue in (
        Queue(RECONCILE, reconcile, budgets.RECONCILE_S),
        Queue(RELAY, jobs.handle, budgets.RELAY_S),
        Queue(BACKFILL, jobs.handle, budgets.RELAY_S),
        Queue(ARTIFACTS, jobs.log_artifacts, budgets.ARTIFACTS_S),
    )
}


async def handle(raw: func.QueueMessage, queue: Queue, deps: Deps) -> None:
    """Handle one delivery of a message. Raises if the host must deliver it again."""
    app = await deps.app()
    body, source = raw.get_body(), QUEUES[queue.name]
    try:
        message: Message = read_message(queue.name, body)
    except NoticeError as error:
        remedy = "check which sender writes to the app's queues"
        await app.problems.note(problem_of(error, source, remedy=remedy))
        return
    subject = message.subject
    known = work_of(queue.name, body)
    try:
        with app.telemetry.span(source, trigger=message.trigger, subject=subject):
            budget = budgets.within(queue.budget_s, app, source, subject)
            if message.by_tick:
                async with budget:
                    await queue.handle(message, app)
                return
            async with work.begun(str(raw.id), known, app) as is_wanted:
                # Inside: what is ended with its budget did not die with its process.
                if is_wanted:
                    async with budget:
                        await queue.handle(message, app)
    except Exception as error:  # raised again: an unexpected error must reach the status too
        if (raw.dequeue_count or 0) >= LAST_TRY:
            # The text of an unexpected error may hold anything; the traceback is in the log.
            what, remedy = f"unexpected {type(error).__name__}", "look at the app's log"
            ours = error if isinstance(error, AppError) else AppError(what, remedy=remedy)
            await work.set_aside(known, ours, app)
        raise
