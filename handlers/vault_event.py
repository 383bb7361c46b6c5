"""Event Grid trigger: a secret got a new version or nears its end, or a vault's policies changed."""

from typing import Final

import azure.functions as func

from finetune_wandb.flows.affected import accounts_concerned
from finetune_wandb.flows.app import App, Deps
from finetune_wandb.flows.refusals import refuse
from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.secret import SecretRef
from handlers.notices_in import Notice, data_text, read_notice

NAME: Final = "vault_event"
_SECRET: Final = {
    "Microsoft.KeyVault.SecretNewVersionCreated",
    "Microsoft.KeyVault.SecretNearExpiry",
    "Microsoft.KeyVault.SecretExpired",
}
_POLICY: Final = "Microsoft.KeyVault.VaultAccessPolicyChanged"


async def vault_event(event: func.EventGridEvent | func.CloudEvent, app: App) -> int:
    """Send the messages that the event makes worth while; return how many.

    The event only says where to look: which version is newest, and whether W&B takes it, is
    read when the message is worked on.
    """
    try:
        notice = read_notice(event)
        messages = await _messages(notice, app)
    except NoticeError as error:
        await refuse(app, NAME, error)
        return 0
    await app.reconcile_queue.send([message.to_json() for message in messages])
    return len(messages)


async def _messages(notice: Notice, app: App) -> list[ReconcileMessage]:
    now = app.clock()
    if notice.type == _POLICY:
        vault = _vault(notice, app)
        return [
            ReconcileMessage(
                kind="account", account=str(entry.id), trigger=notice.type, sent_at=now
            )
            for entry in await accounts_concerned([vault.host], app)
        ]
    if notice.type not in _SECRET:
        raise NoticeError("an event of a type that is not handled here", subject="type")
    vault = _vault(notice, app)
    name = data_text(notice, "objectname") or notice.subject
    if not ids.is_secret_name(name) or name.lower() not in app.settings.allowed_secrets:
        raise NoticeError(
            "a secret that is not looked after",
            subject="secret",
            remedy="filter the event subscription by the secret's name, or add the secret to"
            " ALLOWED_SECRETS",
        )
    return [
        ReconcileMessage(
            kind="key", secret=SecretRef(vault, name), trigger=notice.type, sent_at=now
        )
    ]


def _vault(notice: Notice, app: App) -> ids.VaultAddress:
    """Return the vault the event is about, from its object's URL or from its topic."""
    identifier = data_text(notice, "id")
    if identifier:
        vault = ids.parse_vault_url(identifier)
    else:
        name = data_text(notice, "vaultname") or notice.topic.rpartition("/")[2]
        vault = ids.parse_vault_url(f"https://{name}.{app.settings.key_vault_url.suffix}")
    if vault.name not in app.settings.allowed_vaults:
        raise NoticeError(
            "a vault that is not looked after",
            subject="vault",
            remedy="add the vault to ALLOWED_VAULTS, or remove its event subscription",
        )
    return vault


async def run(event: func.EventGridEvent | func.CloudEvent, deps: Deps) -> None:
    """Handle one delivery."""
    app = await deps.app()
    with app.telemetry.span(NAME, **{"event.id": str(event.id)[:100]}) as span:
        span.note(messages=await vault_event(event, app))
