"""Event Grid triggers: which accounts or keys to look at when an account or a vault changed.

An event is a hint in either schema from an unknown sender, and can carry personal data. So only
named, checked parts are used and bodies are never logged. The handlers of the messages sent here
read the real state.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import azure.functions as func

from finetune_wandb.flows.app import App
from finetune_wandb.flows.events import accounts_concerned
from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import Message, account_messages, key_message
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.work import Source, problem_of

_RESOURCE: Final = {
    "Microsoft.Resources.ResourceWriteSuccess",
    "Microsoft.Resources.ResourceDeleteSuccess",
}
_NOTIFICATION: Final = {
    "Microsoft.ResourceNotifications.Resources.CreatedOrUpdated",
    "Microsoft.ResourceNotifications.Resources.Deleted",
}
_SECRET: Final = {
    "Microsoft.KeyVault.SecretNewVersionCreated",
    "Microsoft.KeyVault.SecretNearExpiry",
    "Microsoft.KeyVault.SecretExpired",
}
_POLICY: Final = "Microsoft.KeyVault.VaultAccessPolicyChanged"
_ACCOUNT_OPERATIONS: Final = {
    "microsoft.cognitiveservices/accounts/write",
    "microsoft.cognitiveservices/accounts/delete",
}
_ROLE_DELETED: Final = "microsoft.authorization/roleassignments/delete"
_OBJECT_ID: Final = "http://schemas.microsoft.com/identity/claims/objectidentifier"
_IS_OBJECT_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_REMEDY: Final = "check which sender delivers these to the function app"


@dataclass(frozen=True, slots=True)
class Notice:
    """One event. `data` has lower-case names."""

    type: str
    topic: str
    subject: str
    data: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Return a text of the data without surrounding blanks, empty without one."""
        return _text(self.data.get(name))

    def object(self, name: str) -> Mapping[str, Any]:
        """Return an object of the data, empty without one."""
        value = self.data.get(name)
        return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


async def handle(event: func.EventGridEvent | func.CloudEvent, source: Source, app: App) -> int:
    """Send the messages that an event of this function causes; return how many.

    An event that cannot be understood or does not concern the app is acknowledged and reported.
    """
    kind = ""
    messages: Sequence[Message] = ()
    with app.telemetry.span(source, **{"event.id": str(event.id)[:100]}) as span:
        try:
            notice = read_notice(event)
            kind = f" of {notice.type[:100]}"
            decide = _accounts if source == Source.ACCOUNT_EVENT else _accounts_or_secret
            concerned = await decide(notice, app)
            trigger, now = notice.type, app.clock()
            if isinstance(concerned, SecretRef):
                messages = [key_message(concerned, trigger=trigger, now=now)]
            else:
                messages = account_messages(
                    concerned, trigger=trigger, now=now, by=next(iter(_writers(notice)), "")
                )
        except NoticeError as error:
            subject = f"{error.subject}{kind}"[:200]
            await app.refused_events.note(problem_of(error, source, subject, remedy=_REMEDY))
        await app.queues.send(messages)
        span.note(messages=len(messages))
    return len(messages)


def read_notice(event: func.EventGridEvent | func.CloudEvent) -> Notice:
    """Return what the event says. Raises NoticeError for one that cannot be understood.

    The worker chooses the class by the payload, whatever the annotation says.
    """
    try:
        body = event.get_json()
    except ValueError:
        raise NoticeError("the event's data is not JSON", subject="data") from None
    if not isinstance(body, Mapping):
        raise NoticeError("the event's data is not an object", subject="data")
    if isinstance(event, func.CloudEvent):
        kind, topic = event.type, event.source
    else:
        kind, topic = event.event_type, event.topic
    if not isinstance(kind, str) or not kind:
        raise NoticeError("the event has no type", subject="type")
    return Notice(
        type=kind.strip(),
        topic=_text(topic),
        subject=_text(event.subject),
        # Key Vault's own examples have blanks around names and values.
        data={str(name).strip().lower(): value for name, value in body.items()},
    )


async def _accounts(notice: Notice, app: App) -> list[ids.AccountId]:
    """Decide on a write, a deletion, or a removed role assignment.

    Accepts Resource Manager's events and the newer Resource Notifications.
    """
    if notice.type in _NOTIFICATION:
        resource = notice.object("resourceinfo") or notice.object("resourcedetails")
        return [_account(str(resource.get("id") or notice.subject), app)]
    if notice.type not in _RESOURCE:
        raise NoticeError("an event of a type that the app does not handle", subject="type")
    _known_subscription(notice.topic or notice.subject, app, "topic")
    operation = notice.text("operationname").lower()
    resource_id = notice.text("resourceuri") or notice.subject
    if operation == _ROLE_DELETED:
        return await _left_without(resource_id, app)
    if operation not in _ACCOUNT_OPERATIONS:
        raise NoticeError("an operation that the app does not handle", subject="operationName")
    if "/microsoft.resources/deployments/" in resource_id.lower():
        # A template's create raises two events: one with the deployment's address, one with the
        # account's, which is the one to act on (azure-docs issue 12166).
        return []
    account = _account(resource_id, app)
    return [] if await _is_own_write(notice, app) else [account]


def _account(text: str, app: App) -> ids.AccountId:
    account = ids.parse_account_id(text)
    _known_subscription(text, app, "account")
    return account


def _known_subscription(text: str, app: App, field: str) -> None:
    if ids.subscription_of(text) not in app.settings.azure_subscription_ids:
        raise NoticeError(
            "from a subscription that the app does not watch",
            subject=field,
            remedy="add it to AZURE_SUBSCRIPTION_IDS, or remove its event subscription",
        )


async def _is_own_write(notice: Notice, app: App) -> bool:
    """Return whether the app made this write: it has already read the outcome.

    A false writer only suppresses that one event; the drift timer ignores the writer.
    """
    own = (await app.own_principal()).replace("-", "")
    return bool(own) and own in [one.replace("-", "") for one in _writers(notice)]


def _writers(notice: Notice) -> list[str]:
    """Return the object ids of the callers that an event names, in lower case."""
    evidence = notice.object("authorization").get("evidence")
    named = (
        notice.object("claims").get(_OBJECT_ID),
        evidence.get("principalId") if isinstance(evidence, Mapping) else None,
    )
    return [str(one).lower() for one in named if one and _IS_OBJECT_ID.fullmatch(str(one))]


async def _left_without(assignment: str, app: App) -> list[ids.AccountId]:
    """Return the accounts that lost access with a removed role assignment."""
    scope = assignment.lower().split("/providers/microsoft.authorization/")[0]
    vault = scope.partition("/providers/microsoft.keyvault/vaults/")[2].split("/")[0]
    if "/providers/" in scope and not vault:
        return []
    host = f"{vault}.{app.settings.key_vault_url.suffix}" if vault else None
    return await accounts_concerned(host, app)


async def _accounts_or_secret(notice: Notice, app: App) -> list[ids.AccountId] | SecretRef:
    """Decide on a new or expiring version of a secret, or a changed access policy."""
    if notice.type == _POLICY:
        return await accounts_concerned(_vault(notice, app).host, app)
    if notice.type not in _SECRET:
        raise NoticeError("an event of a type that the app does not handle", subject="type")
    vault = _vault(notice, app)
    name = notice.text("objectname") or notice.subject
    if not ids.is_secret_name(name) or name.lower() not in app.settings.allowed_secrets:
        raise NoticeError(
            "a secret that the app does not use",
            subject="secret",
            remedy="filter the event subscription by the secret's name, or add the secret to"
            " ALLOWED_SECRETS",
        )
    return SecretRef(vault, name)


def _vault(notice: Notice, app: App) -> ids.VaultAddress:
    """Return the vault the event is about, from its object's URL or from its topic."""
    identifier = notice.text("id")
    if not identifier:
        name = notice.text("vaultname") or notice.topic.rpartition("/")[2]
        identifier = f"https://{name}.{app.settings.key_vault_url.suffix}"
    vault = ids.parse_vault_url(identifier)
    if vault.name not in app.settings.allowed_vaults:
        raise NoticeError(
            "a vault that the app does not use",
            subject="vault",
            remedy="add the vault to ALLOWED_VAULTS, or remove its event subscription",
        )
    return vault
