"""An event about an account: a write, a deletion, or a role assignment that was removed.

Accepts Resource Manager's events and the newer Resource Notifications, and decides only which
accounts to look at. Their state is read when the message is handled.
"""

from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.flows.events import accounts_concerned
from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import AccountMessage, Message
from finetune_wandb.model.work import Source
from handlers.events import Event, Notice, data_object, data_text, take

_RESOURCE: Final = {
    "Microsoft.Resources.ResourceWriteSuccess",
    "Microsoft.Resources.ResourceDeleteSuccess",
}
_NOTIFICATION: Final = {
    "Microsoft.ResourceNotifications.Resources.CreatedOrUpdated",
    "Microsoft.ResourceNotifications.Resources.Deleted",
}
_ACCOUNT_OPERATIONS: Final = {
    "microsoft.cognitiveservices/accounts/write",
    "microsoft.cognitiveservices/accounts/delete",
}
_ROLE_DELETED: Final = "microsoft.authorization/roleassignments/delete"
_OBJECT_ID: Final = "http://schemas.microsoft.com/identity/claims/objectidentifier"


async def handle(event: Event, app: App) -> int:
    """Send one message for each account that the event may concern; return how many."""
    return await take(event, _messages, Source.ACCOUNT_EVENT, app)


async def _messages(notice: Notice, app: App) -> list[Message]:
    return [
        AccountMessage(account=account, trigger=notice.type, sent_at=app.clock())
        for account in await _accounts(notice, app)
    ]


async def _accounts(notice: Notice, app: App) -> list[str]:
    if notice.type in _NOTIFICATION:
        resource = data_object(notice, "resourceinfo") or data_object(notice, "resourcedetails")
        return [_account(str(resource.get("id") or notice.subject), app)]
    if notice.type not in _RESOURCE:
        raise NoticeError("an event of a type that the app does not handle", subject="type")
    _known_subscription(notice.topic or notice.subject, app, "topic")
    operation = data_text(notice, "operationname").lower()
    resource_id = data_text(notice, "resourceuri") or notice.subject
    if operation == _ROLE_DELETED:
        return await _left_without(resource_id, app)
    if operation not in _ACCOUNT_OPERATIONS:
        raise NoticeError("an operation that the app does not handle", subject="operationName")
    if "/microsoft.resources/deployments/" in resource_id.lower():
        # A template's create comes twice: once with the deployment's address, once with the
        # account's own, which is the one to act on (azure-docs issue 12166).
        return []
    account = _account(resource_id, app)
    if await _is_own_write(notice, app):
        return []
    return [account]


def _account(text: str, app: App) -> str:
    account = ids.parse_account_id(text)
    _known_subscription(text, app, "account")
    return str(account)


def _known_subscription(text: str, app: App, field: str) -> None:
    subscription = ids.subscription_of(text)
    if subscription not in app.settings.azure_subscription_ids:
        raise NoticeError(
            "from a subscription that the app does not watch",
            subject=field,
            remedy="add it to AZURE_SUBSCRIPTION_IDS, or remove its event subscription",
        )


async def _is_own_write(notice: Notice, app: App) -> bool:
    """Return whether the app itself made this write: it has read the outcome already.

    A sender that lies here only suppresses its own event; the drift timer ignores the writer.
    """
    authorization = data_object(notice, "authorization")
    evidence = authorization.get("evidence")
    claims = data_object(notice, "claims")
    writers = {
        str(claims.get(_OBJECT_ID, "")).lower(),
        str(evidence.get("principalId", "")).replace("-", "").lower()
        if isinstance(evidence, dict)
        else "",
    } - {""}
    own = await app.own_principal()
    return bool(own) and bool(writers & {own, own.replace("-", "")})


async def _left_without(assignment: str, app: App) -> list[str]:
    """Return the accounts that a removed role assignment has left without access."""
    scope = assignment.lower().split("/providers/microsoft.authorization/")[0]
    if "/providers/" in scope and "/providers/microsoft.keyvault/vaults/" not in scope:
        return []
    vault = scope.partition("/providers/microsoft.keyvault/vaults/")[2].split("/")[0]
    hosts = [f"{vault}.{app.settings.key_vault_url.suffix}"] if vault else None
    return [str(entry.id) for entry in await accounts_concerned(hosts, app)]
