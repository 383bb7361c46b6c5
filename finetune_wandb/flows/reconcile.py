"""Queue trigger: check one account, prove one key, spread a re-sync, take up what was set aside."""

import logging
from typing import Final

import azure.functions as func

from finetune_wandb.flows import account_work, resync_work, set_aside
from finetune_wandb.flows.app import LAST_TRY, App, Deps
from finetune_wandb.model.messages import ReconcileMessage, read_reconcile

log = logging.getLogger(__name__)

NAME: Final = "reconcile_account"
QUEUE: Final = "reconcile-accounts"


async def handle(message: ReconcileMessage, app: App) -> None:
    """Do what the message asks for. Raises TemporaryError for work that must be tried again."""
    if message.kind == "resync":
        await resync_work.spread(message.resync, app)
    elif message.kind == "requeue":
        if moved := await app.queues.requeue():
            log.info("%d messages that were set aside are on their queues again", moved)
    elif message.kind == "key":
        await account_work.prove_key(message, app)
    elif message.resync:
        await resync_work.account(message, app)
    else:
        await account_work.check_account(message, app)


async def run(message: ReconcileMessage, tries: int | None, app: App) -> None:
    """Handle a message; at its last try say in status and re-sync that it is set aside."""
    try:
        with app.telemetry.span(
            f"reconcile {message.kind}",
            **{"azure.account.id": message.account.lower(), "trigger": message.trigger},
        ):
            await handle(message, app)
    except Exception as error:  # raised on: what nobody thought of must not be in a log alone
        if (tries or 0) >= LAST_TRY:
            await _give_up(message, error, app)
        raise


async def _give_up(message: ReconcileMessage, error: Exception, app: App) -> None:
    subject = message.account or str(message.secret or message.kind)
    told = await set_aside.tell(error, app, source=NAME, subject=subject)
    await resync_work.give_up(message, told, app)


async def receive(message: func.QueueMessage, deps: Deps) -> None:
    """Handle one message of the queue."""
    await run(read_reconcile(message.get_body()), message.dequeue_count, await deps.app())
