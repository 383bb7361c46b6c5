"""The vaults that exist and those that are soft-deleted, by ARM id and by their global name."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dev.sandbox import tokens
from dev.sandbox.arm import arm
from dev.sandbox.shelf import Shelf
from dev.sandbox.store import DEFAULT_GROUP, World
from dev.sandbox.vault.secret_store import Secret

TYPE = "Microsoft.KeyVault/vaults"


@dataclass
class Vault:
    """One vault: its ARM body, its secrets by name in lower case, and the control switches.

    `implicit`: made by a control call, so an ARM PUT may still say where it belongs.
    `deny`: a code that every data-plane call is refused with, or None.
    """

    body: dict[str, Any]
    secrets: dict[str, Secret] = field(default_factory=dict)
    deleted_secrets: dict[str, Secret] = field(default_factory=dict)
    implicit: bool = False
    deny: str | None = None
    deleted_at: datetime | None = None


@dataclass
class Vaults:
    """Vaults by id, ids by lower-case name; soft-deleted vaults by lower-case name."""

    shelf: Shelf[Vault] = field(default_factory=Shelf)
    ids: dict[str, str] = field(default_factory=dict)
    deleted: dict[str, Vault] = field(default_factory=dict)


def state(world: World) -> Vaults:
    return world.part("vaults", Vaults)


def by_name(world: World, name: str) -> Vault | None:
    """Return the vault with a name, or None; soft-deleted vaults do not count."""
    vaults = state(world)
    vault_id = vaults.ids.get(name.lower())
    return None if vault_id is None else vaults.shelf.get(vault_id)


def add(world: World, vault: Vault) -> None:
    vaults = state(world)
    vaults.shelf.put(vault.body["id"], vault)
    vaults.ids[vault.body["name"].lower()] = vault.body["id"]


def take(world: World, vault: Vault) -> None:
    """Take the vault off; its name is free again."""
    vaults = state(world)
    vaults.shelf.remove(vault.body["id"])
    del vaults.ids[vault.body["name"].lower()]


def new_body(vault_id: str, *, rbac: bool | None) -> dict[str, Any]:
    """Return the body of a vault with Azure's defaults; rbac None is the old null (policies)."""
    name = vault_id.rsplit("/", 1)[1]
    return {
        "id": vault_id,
        "name": name,
        "type": TYPE,
        "location": "swedencentral",
        "tags": {},
        "systemData": {"createdAt": arm.now(), "lastModifiedAt": arm.now()},
        "properties": {
            "sku": {"family": "A", "name": "standard"},
            "tenantId": tokens.DEFAULT_TENANT,
            "accessPolicies": [],
            "enabledForDeployment": False,
            "enabledForDiskEncryption": False,
            "enabledForTemplateDeployment": False,
            "enableSoftDelete": True,
            "softDeleteRetentionInDays": 90,
            "enableRbacAuthorization": rbac,
            "vaultUri": f"https://{name.lower()}.vault.azure.net/",
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
            "networkAcls": {
                "bypass": "AzureServices",
                "defaultAction": "Allow",
                "ipRules": [],
                "virtualNetworkRules": [],
            },
        },
    }


def ensure(world: World, name: str) -> Vault:
    """Return the vault, made in RBAC mode in the default subscription if nobody has it.

    Raises ValueError when the name is that of a soft-deleted vault.
    """
    vault = by_name(world, name)
    if vault is not None:
        return vault
    if name.lower() in state(world).deleted:
        raise ValueError(f"vault: {name} is soft-deleted; recover or purge it first")
    vault_id = (
        f"/subscriptions/{world.default_subscription}/resourceGroups/{DEFAULT_GROUP}"
        f"/providers/{TYPE}/{name}"
    )
    vault = Vault(new_body(vault_id, rbac=True), implicit=True)
    add(world, vault)
    return vault
