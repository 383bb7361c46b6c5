"""An event of a vault: a new or expiring version of a secret, or a changed access policy."""

from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.flows.events import accounts_concerned
from finetune_wandb.model import ids
from finetune_wandb.model.errors import NoticeError
from finetune_wandb.model.messages import AccountMessage, Message, key_message
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.work import Source
from handlers.events import Event, Notice, data_text, take

_SECRET: Final = {
    "Microsoft.KeyVault.SecretNewVersionCreated",
    "Microsoft.KeyVault.SecretNearExpiry",
    "Microsoft.KeyVault.SecretExpired",
}
_POLICY: Final = "Microsoft.KeyVault.VaultAccessPolicyChanged"


async def handle(event: Event, app: App) -> int:
    """Send the messages that the event causes; return how many.

    The event only says where to look: which version is newest, and whether W&B accepts it, is
    read when the message is handled.
    """
    return await take(event, _messages, Source.VAULT_EVENT, app)


async def _messages(notice: Notice, app: App) -> list[Message]:
    now = app.clock()
    if notice.type == _POLICY:
        vault = _vault(notice, app)
        return [
            AccountMessage(account=str(entry.id), trigger=notice.type, sent_at=now)
            for entry in await accounts_concerned([vault.host], app)
        ]
    if notice.type not in _SECRET:
        raise NoticeError("an event of a type that the app does not handle", subject="type")
    vault = _vault(notice, app)
    name = data_text(notice, "objectname") or notice.subject
    if not ids.is_secret_name(name) or name.lower() not in app.settings.allowed_secrets:
        raise NoticeError(
            "a secret that the app does not use",
            subject="secret",
            remedy="filter the event subscription by the secret's name, or add the secret to"
            " ALLOWED_SECRETS",
        )
    return [key_message(SecretRef(vault, name), trigger=notice.type, now=now)]


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
            "a vault that the app does not use",
            subject="vault",
            remedy="add the vault to ALLOWED_VAULTS, or remove its event subscription",
        )
    return vault
