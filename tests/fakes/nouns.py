"""Names and nouns that tests share: ids, places, keys, and what one reads of them."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from finetune_wandb.model.accounts.account import Account, RelayAccount
from finetune_wandb.model.accounts.vault import SecretVersion
from finetune_wandb.model.ids import AccountId, parse_account_id, parse_vault_url
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings, read_settings

_IDS = count(1)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
PRINCIPAL = "33333333-3333-4333-8333-333333333333"
OLD_PRINCIPAL = "44444444-4444-4444-8444-444444444444"
OWN_PRINCIPAL = "55555555-5555-4555-8555-555555555555"
"""Of the app itself."""
VAULT = parse_vault_url("https://kv-main.vault.azure.net")
PLACE = SecretRef(VAULT, "wandb-api-key")
OTHER_VAULT = parse_vault_url("https://kv-other.vault.azure.net")
VAULT_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shared"
    "/providers/Microsoft.KeyVault/vaults/kv-main"
)
GOOD = "wandb_v1_" + "g" * 60
BETTER = "wandb_v1_" + "b" * 60
STRANGER = "wandb_v1_" + "s" * 60
REVOKED = "wandb_v1_" + "r" * 60
USER_IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shared"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)
ENTITY = "team"
PROJECT = "proj"
KEY = RunKey(ENTITY, Secret("k" * 40))


def settings(**more: str) -> Settings:
    return read_settings(
        {"AZURE_SUBSCRIPTION_IDS": SUBSCRIPTION, "KEY_VAULT_URL": VAULT.url} | more
    )


def setting_defaults() -> dict[str, str | None]:
    """Return each setting's default as text, in order; None where it must be given."""
    return {item.name.upper(): item.metadata["default"] for item in fields(Settings)}


def account_id(name: str = "alpha") -> AccountId:
    return AccountId(SUBSCRIPTION, "rg-ai", name)


def account(name: str = "alpha", **more: object) -> Account:
    """Return an account as it is after somebody made it in the portal."""
    base = Account(
        id=account_id(name),
        kind="OpenAI",
        region="swedencentral",
        provisioning_state="Succeeded",
        endpoint=f"https://{name}.openai.azure.com",
        custom_subdomain=name,
    )
    return replace(base, **more)


def version(number: str, value: str = GOOD, **more: object) -> SecretVersion:
    base = SecretVersion(
        version=number,
        enabled=True,
        not_before=None,
        expires=NOW + timedelta(days=90),
        value=Secret(value),
    )
    return replace(base, **more)


def relay_account(name: str = "aoai-one", **more: Any) -> RelayAccount:
    """Return an account as the relay sees it."""
    account_id = parse_account_id(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-one"
        f"/providers/Microsoft.CognitiveServices/accounts/{name}"
    )
    account = RelayAccount(
        id=account_id,
        name=name,
        endpoint=f"https://{name}.openai.azure.com",
        region="swedencentral",
        subscription=SUBSCRIPTION,
        entity="",
        project=PROJECT,
        secret=PLACE,
    )
    return replace(account, **more)


def short_id() -> str:
    """Return an id that no other call returns."""
    return f"id-{next(_IDS)}"
