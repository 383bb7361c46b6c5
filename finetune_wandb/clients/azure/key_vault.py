"""Secrets in a vault's data plane. The value goes from the SDK straight into a masked type.

Takes `VaultAddress` only: nothing but a checked Key Vault host is ever asked.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from finetune_wandb.clients.translate import answered
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.ids import VaultAddress
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.vault import SecretVersion

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient

_SERVICE = "Key Vault"


class KeyVault:
    """One SDK client per vault, made when first needed and kept."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clients: dict[str, SecretClient] = {}

    async def read_newest(self, secret: SecretRef) -> SecretVersion:
        """Return the newest version. Raises MissingError, or DeniedError whose code says why:
        `SecretDisabled`, `ForbiddenByRbac`, `AccessDenied`, `ForbiddenByFirewall`, ...;
        UnavailableError for an answer that holds none.
        """
        return await self._read(secret, None)

    async def read_version(self, secret: SecretRef, version: str) -> SecretVersion:
        """Return exactly that version. Raises as `read_newest` does."""
        return await self._read(secret, version)

    async def write_version(
        self,
        secret: SecretRef,
        value: Secret,
        *,
        expires: datetime,
        tags: Mapping[str, str],
    ) -> str:
        """Store a new version and return its name. Raises as `read_newest` does."""
        with answered(str(secret), _SERVICE):
            made = await self._client(secret.vault).set_secret(
                secret.name, value.reveal(), expires_on=expires, tags=dict(tags)
            )
        return made.properties.version or ""

    async def find_version(self, secret: SecretRef, tag: str, value: str) -> str | None:
        """Return the latest version that carries a tag with this value, None when none does.

        No value of a secret is read for it.
        """
        with answered(str(secret), _SERVICE):
            listed = self._client(secret.vault).list_properties_of_secret_versions(secret.name)
            found = [item async for item in listed if (item.tags or {}).get(tag) == value]
        found.sort(key=lambda item: item.created_on.timestamp() if item.created_on else 0.0)
        return found[-1].version if found else None

    async def _read(self, secret: SecretRef, version: str | None) -> SecretVersion:
        with answered(str(secret), _SERVICE):
            found = await self._client(secret.vault).get_secret(secret.name, version)
            if found.value is None or not found.properties.version:
                # A proxy's answer with status 200. Versions never change: taken for one, it would
                # be kept as the key's value for as long as this process lives.
                raise UnavailableError("Key Vault's answer holds no secret", subject=str(secret))
            return _version_of(found)

    def _client(self, vault: VaultAddress) -> "SecretClient":
        if vault.host not in self._clients:
            from azure.keyvault.secrets.aio import SecretClient

            from finetune_wandb.clients.azure.sdk import sdk_options

            self._clients[vault.host] = SecretClient(
                vault.url, self._transport.credential(), **sdk_options(self._transport)
            )
        return self._clients[vault.host]


def _version_of(found: Any) -> SecretVersion:
    properties = found.properties
    return SecretVersion(
        version=properties.version,
        enabled=properties.enabled is not False,
        not_before=properties.not_before,
        expires=properties.expires_on,
        # Files put into a vault often end in a line break, which does not belong to the key.
        value=Secret(found.value.strip()),
        tags=dict(properties.tags or {}),
    )
