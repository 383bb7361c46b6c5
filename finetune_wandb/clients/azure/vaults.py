"""Key vaults: the resource in ARM, who may read it (access policies, role assignments), secrets.

A vault's URL does not say where its resource is. The place is remembered; the facts are not.
"""

import contextlib
from collections.abc import AsyncIterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from finetune_wandb.clients.translate import error_code, text_of, translated
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.vault import (
    NEEDED_PERMISSIONS,
    AccessPolicy,
    RoleAssignment,
    SecretVersion,
    Vault,
    assignment_name,
)
from finetune_wandb.model.errors import AppError, MissingError, UnavailableError
from finetune_wandb.model.ids import VaultAddress, subscription_of
from finetune_wandb.model.secret import Secret, SecretRef

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient
    from azure.mgmt.authorization.v2022_04_01.aio import AuthorizationManagementClient
    from azure.mgmt.keyvault.aio import KeyVaultManagementClient

_SERVICE = "Azure Resource Manager"
_KEY_VAULT = "Key Vault"


class VaultResources:
    """VaultPort over Azure Resource Manager."""

    def __init__(self, transport: Transport, subscriptions: tuple[str, ...]) -> None:
        self._transport = transport
        self._subscriptions = subscriptions
        self._places: dict[str, tuple[str, str]] = {}

    async def find(self, vault: VaultAddress) -> Vault:
        """A subscription that cannot be listed matters only when no other one has the vault."""
        if place := self._places.get(vault.host):
            subscription, group = place
            try:
                with translated(vault.host, _SERVICE):
                    found = await self._client(subscription).vaults.get(group, vault.name)
                    return _vault_of(found, vault)
            except MissingError:
                self._places.pop(vault.host, None)
        problem: AppError | None = None
        for subscription in self._subscriptions:
            try:
                with translated(vault.host, _SERVICE):
                    listed = self._client(subscription).vaults.list_by_subscription()
                    if found := await _named(vault, listed):
                        self._places[vault.host] = (subscription, _parts(found.id or "")[1])
                        return _vault_of(found, vault)
            except AppError as error:
                problem = problem or error
        raise problem or await self._missing(vault)

    async def add_policy(self, vault: Vault, object_id: str) -> None:
        from azure.mgmt.keyvault import models

        held = vault.policy_of(object_id)
        permissions = NEEDED_PERMISSIONS | (held.secret_permissions if held else frozenset())
        entry = models.AccessPolicyEntry(
            tenant_id=vault.tenant_id,
            object_id=object_id,
            permissions=models.Permissions(secrets=sorted(permissions)),
        )
        subscription, group, name = _parts(vault.id)
        with translated(vault.id, _SERVICE):
            await self._client(subscription).vaults.update_access_policy(
                group,
                name,
                "add",
                models.VaultAccessPolicyParameters(
                    properties=models.VaultAccessPolicyProperties(access_policies=[entry])
                ),
            )

    async def _missing(self, vault: VaultAddress) -> MissingError:
        for subscription in self._subscriptions:
            # That it was deleted is extra information; that it does not exist is the answer.
            with contextlib.suppress(AppError), translated(vault.host, _SERVICE):
                if await _named(vault, self._client(subscription).vaults.list_deleted()):
                    return MissingError(
                        "the vault is deleted and can be recovered",
                        subject=vault.host,
                        code="SoftDeleted",
                    )
        return MissingError("no configured subscription has the vault", subject=vault.host)

    def _client(self, subscription: str) -> "KeyVaultManagementClient":
        from azure.mgmt.keyvault.aio import KeyVaultManagementClient

        return self._transport.sdk_client(KeyVaultManagementClient, subscription_id=subscription)


class Roles:
    """RolePort over Azure Resource Manager."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list_for_scope(self, scope: str) -> tuple[RoleAssignment, ...]:
        """Return the assignments at a scope and above it; some services add those below."""
        with translated(scope, _SERVICE):
            listed = self._client(scope).role_assignments.list_for_scope(scope)
            return tuple([_assignment_of(item) async for item in listed])

    async def assign(
        self, scope: str, role_id: str, principal_id: str, description: str
    ) -> RoleAssignment:
        from azure.core.exceptions import HttpResponseError
        from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters

        name = assignment_name(scope, principal_id, role_id)
        wanted = RoleAssignment(
            id=f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
            scope=scope.lower(),
            role_id=role_id,
            principal_id=principal_id.lower(),
            description=description,
            # Of one that is there under another name this is not known: it may be new.
            made_at=datetime.now(UTC),
        )
        body = RoleAssignmentCreateParameters(
            role_definition_id=f"/subscriptions/{subscription_of(scope)}/providers"
            f"/Microsoft.Authorization/roleDefinitions/{role_id}",
            principal_id=principal_id,
            # Without it the SDK sends User, and Azure does not find a new identity.
            principal_type="ServicePrincipal",
            description=description,
        )
        with translated(scope, _SERVICE):
            try:
                made = await self._client(scope).role_assignments.create(scope, name, body)
            except HttpResponseError as error:
                # The same role is assigned under another name: nothing to do.
                if error_code(error) != "RoleAssignmentExists":
                    raise
                return wanted
        return _assignment_of(made)

    async def remove(self, assignment: str) -> None:
        with contextlib.suppress(MissingError), translated(assignment, _SERVICE):
            await self._client(assignment).role_assignments.delete_by_id(assignment)

    def _client(self, scope: str) -> "AuthorizationManagementClient":
        from azure.mgmt.authorization.v2022_04_01.aio import AuthorizationManagementClient

        return self._transport.sdk_client(
            AuthorizationManagementClient, subscription_id=subscription_of(scope) or ""
        )


class KeyVault:
    """SecretPort and SecretWriterPort over a vault's data plane.

    A value goes from the SDK straight into a masked type. Takes `VaultAddress` only: nothing but
    a checked Key Vault host is ever called.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def read_newest(self, secret: SecretRef) -> SecretVersion:
        return await self.read_version(secret, None)

    async def read_version(self, secret: SecretRef, version: str | None) -> SecretVersion:
        with translated(str(secret), _KEY_VAULT):
            found = await self._client(secret.vault).get_secret(secret.name, version)
            properties = found.properties
            if found.value is None or not properties.version:
                # A proxy's answer with status 200. Versions never change: taken as one, it would
                # be kept as the key's value for as long as this process lives.
                raise UnavailableError("Key Vault's answer holds no secret", subject=str(secret))
            return SecretVersion(
                version=properties.version,
                enabled=properties.enabled is not False,
                not_before=properties.not_before,
                expires=properties.expires_on,
                # Files put into a vault often end in a line break, which is not part of the key.
                value=Secret(found.value.strip()),
                tags=dict(properties.tags or {}),
            )

    async def write_version(
        self, secret: SecretRef, value: Secret, *, expires: datetime, tags: Mapping[str, str]
    ) -> str:
        with translated(str(secret), _KEY_VAULT):
            made = await self._client(secret.vault).set_secret(
                secret.name, value.reveal(), expires_on=expires, tags=dict(tags)
            )
        return made.properties.version or ""

    async def find_version(self, secret: SecretRef, tag: str, value: str) -> str | None:
        with translated(str(secret), _KEY_VAULT):
            # The list holds properties alone: no value of a secret is read.
            listed = self._client(secret.vault).list_properties_of_secret_versions(secret.name)
            found = [item async for item in listed if (item.tags or {}).get(tag) == value]
        found.sort(key=lambda item: item.created_on.timestamp() if item.created_on else 0.0)
        return found[-1].version if found else None

    def _client(self, vault: VaultAddress) -> "SecretClient":
        from azure.keyvault.secrets.aio import SecretClient

        return self._transport.sdk_client(SecretClient, vault_url=vault.url)


async def _named(vault: VaultAddress, listed: AsyncIterable[Any]) -> Any:
    """Return the vault of this name, which is unique in a cloud; None if it is not listed."""
    async for found in listed:
        if (found.name or "").lower() == vault.name:
            return found
    return None


def _parts(vault_id: str) -> tuple[str, str, str]:
    """Return subscription, resource group and name of a vault's ARM id."""
    parts = vault_id.strip("/").split("/")
    if len(parts) < 8:
        raise MissingError("Azure gave a vault without an id", subject="vault")
    return parts[1].lower(), parts[3], parts[7]


def _vault_of(found: Any, address: VaultAddress) -> Vault:
    properties = found.properties
    if not found.id or properties is None:
        # A proxy's answer with status 200 says nothing about the vault.
        raise UnavailableError(f"{_SERVICE}'s answer holds no vault", subject=address.host)
    network = properties.network_acls
    return Vault(
        id=found.id,
        address=address,
        tenant_id=(properties.tenant_id or "").lower(),
        rbac=properties.enable_rbac_authorization is True,
        policies=tuple(
            AccessPolicy(
                object_id=item.object_id.lower(),
                secret_permissions=frozenset(
                    text_of(right).lower() for right in item.permissions.secrets or ()
                ),
            )
            for item in properties.access_policies or ()
            # A policy for an application that acts for a user is not the identity's own.
            if not item.application_id
        ),
        public_access=(properties.public_network_access or "Enabled").lower() != "disabled",
        firewall=bool(network and text_of(network.default_action).lower() == "deny"),
        trusted_services=not network or text_of(network.bypass).lower() != "none",
    )


def _assignment_of(item: Any) -> RoleAssignment:
    return RoleAssignment(
        id=item.id or "",
        scope=(item.scope or "").lower(),
        role_id=(item.role_definition_id or "").rsplit("/", 1)[-1].lower(),
        principal_id=(item.principal_id or "").lower(),
        description=item.description or "",
        made_at=item.created_on,
    )
