"""Queue trigger: check one account, prove one key, or spread a re-sync."""

from typing import Final

import azure.functions as func

from handlers import account_work, resync_work
from handlers.deps import App, Deps
from model.messages import ReconcileMessage, read_reconcile

NAME: Final = "reconcile_account"
QUEUE: Final = "reconcile-accounts"


async def handle(message: ReconcileMessage, app: App) -> None:
    """Do what the message asks for. Raises TemporaryError for work that must be tried again."""
    if message.kind == "resync":
        await resync_work.spread(message.resync, app)
    elif message.kind == "key":
        await account_work.prove_key(message, app)
    elif message.resync:
        await resync_work.account(message, app)
    else:
        await account_work.check_account(message, app)


def blueprint(deps: Deps) -> func.Blueprint:
    bp = func.Blueprint()

    @bp.function_name(NAME)
    @bp.queue_trigger(arg_name="message", queue_name=QUEUE, connection="AzureWebJobsStorage")
    async def trigger(message: func.QueueMessage) -> None:
        await handle(read_reconcile(message.get_body()), await deps.app())

    return bp
