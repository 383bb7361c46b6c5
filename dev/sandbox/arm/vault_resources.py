"""Vaults in ARM: create, change, read, list, soft-delete, recover, purge, and access policies.

The secrets in them are served by vaults.py, what is kept of a vault is vault_store.py's.
"""

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from dev.sandbox import events
from dev.sandbox.arm import access_policies, accounts, arm, roles, tenants, vault_store
from dev.sandbox.arm.arm import ArmError, ArmRoutes
from dev.sandbox.arm.vault_store import TYPE, Vault
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World

_GROUP = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{TYPE}"
_ONE = f"{_GROUP}/{{name}}"
_DELETED = (
    "/subscriptions/{subscription}/providers/Microsoft.KeyVault"
    "/locations/{location}/deletedVaults/{name}"
)
_NAME = re.compile(r"^[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$")
_RBAC_BY_DEFAULT = "2026-02-01"
"""First api-version that makes new vaults RBAC vaults unless told otherwise."""

_READ_ONLY = {"vaultUri", "provisioningState", "createMode", "hsmPoolResourceId"}


def _id(call: Call) -> str:
    params = call.params
    return (
        f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
        f"/providers/{TYPE}/{params['name']}"
    )


def _existing(world: World, call: Call) -> Vault:
    vault = vault_store.state(world).shelf.get(_id(call))
    if vault is None:
        raise arm.not_found(TYPE, call.params["name"], call.params["group"])
    return vault


def _permission_state(vault: Vault) -> tuple[Any, Any]:
    properties = vault.body["properties"]
    return properties["enableRbacAuthorization"], properties["accessPolicies"]


def _apply(vault: Vault, body: dict[str, Any]) -> None:
    """Change the vault as a PUT or PATCH body says; what is absent stays."""
    properties = dict(vault.body["properties"])
    given = body.get("properties") or {}
    if given.get("accessPolicies") is not None:
        properties["accessPolicies"] = access_policies.read(given["accessPolicies"])
    for name, value in given.items():
        if name in _READ_ONLY or name == "accessPolicies":
            continue
        if value is not None or name == "enableRbacAuthorization":
            properties[name] = value
    _check_addresses(properties["networkAcls"])
    changed = {**vault.body, "properties": properties}
    if body.get("tags") is not None:
        changed["tags"] = body["tags"]
    if body.get("location"):
        changed["location"] = str(body["location"]).lower().replace(" ", "")
    changed["systemData"] = {**vault.body["systemData"], "lastModifiedAt": arm.now()}
    vault.body = changed


def _check_addresses(rules: Any) -> None:
    """Raise ArmError 400 unless the network rules name addresses or ranges."""
    try:
        for rule in rules.get("ipRules") or ():
            ip_network(rule["value"], strict=False)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArmError(
            400, "BadRequest", "The property 'networkAcls' is invalid: see ipRules."
        ) from error


def _create(world: World, call: Call, body: dict[str, Any]) -> Vault:
    """Make or recover a vault. Raises ArmError when the name is wrong, taken or soft-deleted."""
    name = call.params["name"]
    if not _NAME.match(name):
        raise ArmError(
            400,
            "VaultNameNotValid",
            f"The vault name '{name}' is invalid. A vault's name must be between 3-24 "
            "alphanumeric characters. The name must begin with a letter, end with a letter or "
            "digit, and not contain consecutive hyphens.",
        )
    deleted = vault_store.state(world).deleted
    recover = (body.get("properties") or {}).get("createMode") == "recover"
    if name.lower() in deleted:
        if not recover:
            raise ArmError(
                409,
                "ConflictError",
                f"A vault with the same name already exists in deleted state. You need to "
                f"either recover or purge existing key vault '{name}'.",
            )
        vault = deleted.pop(name.lower())
        vault.body = {**vault.body, "id": _id(call)}
        return vault
    holder = vault_store.by_name(world, name)
    if holder is not None and not holder.implicit:
        raise ArmError(
            409,
            "VaultAlreadyExists",
            f"The vault name '{name}' is already in use. Vault names are globally unique so it "
            "is possible that the name is already taken.",
        )
    is_rbac = call.query.get("api-version", _RBAC_BY_DEFAULT)[:10] >= _RBAC_BY_DEFAULT
    vault = Vault(vault_store.new_body(_id(call), rbac=is_rbac))
    if holder is not None:
        vault_store.take(world, holder)
        vault.secrets, vault.deleted_secrets = holder.secrets, holder.deleted_secrets
        vault.deny = holder.deny
    return vault


def _put(world: World, call: Call) -> web.Response:
    body = arm.read_object(call)
    vault = vault_store.state(world).shelf.get(_id(call))
    if vault is not None:
        return _change(world, call, vault, {"tags": {}, **body})
    vault = _create(world, call, body)
    _place_in_tenant(world, _id(call).split("/")[2], vault, body)
    _apply(vault, body)
    vault_store.add(world, vault)
    events.publish_resource(world, call, f"{TYPE}/write", arm.written_id(call))
    return json_response(vault.body, 201)


def _place_in_tenant(world: World, subscription: str, vault: Vault, body: dict[str, Any]) -> None:
    """Let a new vault that names a tenant say which one its subscription is in."""
    named = (body.get("properties") or {}).get("tenantId")
    if not isinstance(named, str):
        tenant = tenants.tenant_of(world, subscription)
        vault.body["properties"] = {**vault.body["properties"], "tenantId": tenant}
    elif tenants.adopt(world, subscription, named):
        accounts.set_tenant(world, subscription, named)


def _change(world: World, call: Call, vault: Vault, body: dict[str, Any]) -> web.Response:
    before = _permission_state(vault)
    _apply(vault, body)
    vault.implicit = False
    events.publish_resource(world, call, f"{TYPE}/write", arm.written_id(call))
    if _permission_state(vault) != before:
        events.publish_policy_change(world, vault.body)
    return json_response(vault.body)


def _delete(world: World, call: Call) -> web.Response:
    vault = vault_store.state(world).shelf.get(_id(call))
    if vault is None:
        return web.Response(status=204)
    vault_store.take(world, vault)
    vault_store.state(world).deleted[vault.body["name"].lower()] = vault
    vault.deleted_at = datetime.now(UTC)
    roles.drop_below(world, vault.body["id"])
    events.publish_resource(world, call, f"{TYPE}/delete", arm.written_id(call))
    return web.Response(status=200)


def _update_policies(world: World, call: Call) -> web.Response:
    vault = _existing(world, call)
    body = arm.read_object(call)
    given = access_policies.read((body.get("properties") or {}).get("accessPolicies"))
    before = _permission_state(vault)
    operation = call.params["operation"]
    entries = access_policies.combine(before[1], operation, given)
    vault.body = {
        **vault.body,
        "properties": vault.body["properties"] | {"accessPolicies": entries},
    }
    events.publish_resource(world, call, f"{TYPE}/accessPolicies/write", arm.written_id(call))
    if entries != before[1]:
        events.publish_policy_change(world, vault.body)
    return json_response(
        {
            "id": f"{vault.body['id']}/accessPolicies/",
            "type": f"{TYPE}/accessPolicies",
            "location": vault.body["location"],
            "properties": {"accessPolicies": entries},
        }
    )


def _deleted(world: World, call: Call) -> Vault:
    name = call.params["name"]
    vault = vault_store.state(world).deleted.get(name.lower())
    subscription = call.params["subscription"].lower()
    if vault is None or vault.body["id"].split("/")[2].lower() != subscription:
        raise ArmError(
            404, "DeletedVaultNotFound", f"The specified deleted vault '{name}' does not exist."
        )
    return vault


def _deleted_body(vault: Vault) -> dict[str, Any]:
    body = vault.body
    deleted_at = vault.deleted_at or datetime.now(UTC)
    retention = timedelta(days=body["properties"]["softDeleteRetentionInDays"])
    return {
        "id": (
            f"/subscriptions/{body['id'].split('/')[2]}/providers/Microsoft.KeyVault"
            f"/locations/{body['location']}/deletedVaults/{body['name']}"
        ),
        "name": body["name"],
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": {
            "vaultId": body["id"],
            "location": body["location"],
            "tags": body["tags"],
            "deletionDate": deleted_at.isoformat(),
            "scheduledPurgeDate": (deleted_at + retention).isoformat(),
            "purgeProtectionEnabled": body["properties"].get("enablePurgeProtection"),
        },
    }


def _body(vault: Vault) -> dict[str, Any]:
    return vault.body


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register the vaults' ARM operations."""

    async def put(call: Call) -> web.Response:
        return _put(world, call)

    async def patch(call: Call) -> web.Response:
        return _change(world, call, _existing(world, call), arm.read_object(call))

    async def get(call: Call) -> web.Response:
        return json_response(_existing(world, call).body)

    async def delete(call: Call) -> web.Response:
        return _delete(world, call)

    async def update_policies(call: Call) -> web.Response:
        return _update_policies(world, call)

    async def list_vaults(call: Call) -> web.Response:
        scope = f"/subscriptions/{call.params['subscription']}"
        if "group" in call.params:
            scope += f"/resourceGroups/{call.params['group']}"
        return arm.list_page(world, call, vault_store.state(world).shelf, scope, _body)

    async def get_deleted(call: Call) -> web.Response:
        return json_response(_deleted_body(_deleted(world, call)))

    async def list_deleted(call: Call) -> web.Response:
        subscription = call.params["subscription"].lower()
        found = [
            _deleted_body(vault)
            for vault in vault_store.state(world).deleted.values()
            if vault.body["id"].split("/")[2].lower() == subscription
        ]
        return json_response({"value": found})

    async def purge(call: Call) -> web.Response:
        _deleted(world, call)
        del vault_store.state(world).deleted[call.params["name"].lower()]
        return web.Response(status=200)

    table.add("PUT", _ONE, put)
    table.add("PATCH", _ONE, patch)
    table.add("GET", _ONE, get)
    table.add("DELETE", _ONE, delete)
    table.add("PUT", f"{_ONE}/accessPolicies/{{operation}}", update_policies)
    table.add("GET", _GROUP, list_vaults)
    table.add("GET", f"/subscriptions/{{subscription}}/providers/{TYPE}", list_vaults)
    table.add("GET", _DELETED, get_deleted)
    table.add("POST", f"{_DELETED}/purge", purge)
    table.add(
        "GET",
        "/subscriptions/{subscription}/providers/Microsoft.KeyVault/deletedVaults",
        list_deleted,
    )
