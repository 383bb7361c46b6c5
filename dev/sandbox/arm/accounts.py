"""Cognitive Services accounts in ARM: create, change, read, list, delete, and how long it takes.

What an account looks like is account_bodies.py's; the fine-tuning API on its endpoint is
jobs.py's.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from dev.sandbox import events, settings
from dev.sandbox.arm import account_bodies, arm, tenants
from dev.sandbox.arm.account_bodies import TYPE
from dev.sandbox.arm.arm import ArmError, ArmRoutes
from dev.sandbox.http import Call, json_response
from dev.sandbox.shelf import Shelf
from dev.sandbox.store import World

_GROUP = f"/subscriptions/{{subscription}}/resourceGroups/{{group}}/providers/{TYPE}"
_ONE = f"{_GROUP}/{{name}}"


@dataclass
class Record:
    """One account: `body` as it is, `shown` as a GET sees it while a write is under way."""

    body: dict[str, Any]
    shown: dict[str, Any]


@dataclass
class Accounts:
    """The accounts by id, ids by subdomain, access keys by id."""

    shelf: Shelf[Record] = field(default_factory=Shelf)
    subdomains: dict[str, str] = field(default_factory=dict)
    keys: dict[str, dict[str, str]] = field(default_factory=dict)


def state(world: World) -> Accounts:
    return world.part("accounts", Accounts)


def find(world: World, account_id: str) -> dict[str, Any] | None:
    """Return the ARM body of an account, or None."""
    record = state(world).shelf.get(account_id)
    return None if record is None else record.shown


def by_host(world: World, host: str) -> dict[str, Any] | None:
    """Return the ARM body of the account whose data plane a host name is, or None."""
    account_id = state(world).subdomains.get(host.split(".", 1)[0].lower())
    return None if account_id is None else find(world, account_id)


def subdomain_of(world: World, name: str) -> str | None:
    """Return the custom subdomain of the first account with a name, or None."""
    for record in state(world).shelf:
        if record.body["name"].lower() == name.lower():
            subdomain: str | None = record.body["properties"].get("customSubDomainName")
            return subdomain
    return None


def _id(call: Call) -> str:
    params = call.params
    return (
        f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
        f"/providers/{TYPE}/{params['name']}"
    )


def _existing(world: World, call: Call) -> Record:
    record = state(world).shelf.get(_id(call))
    if record is None:
        raise arm.not_found(TYPE, call.params["name"], call.params["group"])
    return record


def _settled(record: Record) -> dict[str, Any]:
    """Return the body. Raises ArmError 409 while another write on the account is under way."""
    progress = record.shown["properties"]["provisioningState"]
    if progress != "Succeeded":
        raise ArmError(
            409,
            "AccountProvisioningStateInvalid",
            f"Account {record.body['id']} in state {progress}",
        )
    return record.body


def _claim_subdomain(world: World, account: dict[str, Any]) -> None:
    """Register the subdomain. Raises ArmError 409 when another account has it."""
    subdomain = account["properties"].get("customSubDomainName")
    if not subdomain:
        return
    holder = state(world).subdomains.setdefault(subdomain.lower(), account["id"])
    if holder.lower() != account["id"].lower():
        raise ArmError(
            409,
            "CustomDomainInUse",
            f"Please pick a different name. The subdomain name '{subdomain}' is not available "
            "as it's already used by a resource.",
        )


def _show(
    world: World, account: dict[str, Any], progress: str, *, hide_principal: bool
) -> dict[str, Any]:
    """Put the account on the shelf in the given provisioning state; return what a GET sees."""
    if (account.get("identity") or {}).get("tenantId"):
        tenant = tenants.tenant_of(world, account["id"].split("/")[2])
        account = {**account, "identity": {**account["identity"], "tenantId": tenant}}
    shown = {**account, "properties": {**account["properties"], "provisioningState": progress}}
    if hide_principal:
        shown["identity"] = {**account["identity"], "principalId": None, "tenantId": None}
    state(world).shelf.put(account["id"], Record(account, shown))
    return shown


def _finish(world: World, account: dict[str, Any], *, is_new_principal: bool) -> dict[str, Any]:
    """Make the write visible; a new principal shows after `identity_delay_s`."""
    delay = settings.pace(world, account["name"], "identity_delay_s")
    hide = is_new_principal and delay > 0

    def reveal() -> None:
        record = state(world).shelf.get(account["id"])
        if record is not None and _principal(record.body) == _principal(account):
            record.shown = {**record.shown, "identity": record.body["identity"]}

    if hide:
        world.later(delay, reveal)
    # Another write does not make the directory any quicker.
    hide = hide or (not is_new_principal and _is_hidden(world, account))
    return _show(world, account, "Succeeded", hide_principal=hide)


def _is_hidden(world: World, account: dict[str, Any]) -> bool:
    record = state(world).shelf.get(account["id"])
    return record is not None and _principal(record.body) != _principal(record.shown)


def _principal(account: dict[str, Any] | None) -> str | None:
    principal: str | None = ((account or {}).get("identity") or {}).get("principalId")
    return principal


def _write(
    world: World, call: Call, current: dict[str, Any] | None, account: dict[str, Any]
) -> web.Response:
    """Carry out a PUT or PATCH: at once, or as a slow operation when the setting says so."""
    _claim_subdomain(world, account)
    is_new = current is None
    is_new_principal = _principal(account) not in (None, _principal(current))

    def finish() -> tuple[int, Any]:
        shown = _finish(world, account, is_new_principal=is_new_principal)
        events.publish_resource(world, call, f"{TYPE}/write", arm.written_id(call))
        return 200, shown

    seconds = settings.pace(world, account["name"], "lro_seconds")
    if not seconds:
        _, shown = finish()
        return json_response(shown, 201 if is_new else 200)
    progress = "Creating" if is_new else "Accepted"
    hide = is_new_principal or _is_hidden(world, account)
    shown = _show(world, account, progress, hide_principal=hide)
    return arm.accepted(world, call, _operations_path(account), shown, finish, seconds=seconds)


def _operations_path(account: dict[str, Any]) -> str:
    subscription = account["id"].split("/")[2]
    return (
        f"/subscriptions/{subscription}/providers/Microsoft.CognitiveServices"
        f"/locations/{account['location']}"
    )


def _delete(world: World, call: Call) -> web.Response:
    record = state(world).shelf.get(_id(call))
    if record is None:
        return web.Response(status=204)
    account = _settled(record)

    def finish() -> tuple[int, Any]:
        accounts = state(world)
        accounts.shelf.remove(account["id"])
        accounts.keys.pop(account["id"].lower(), None)
        subdomain = account["properties"].get("customSubDomainName")
        if subdomain:
            accounts.subdomains.pop(subdomain.lower(), None)
        events.publish_resource(world, call, f"{TYPE}/delete", arm.written_id(call))
        return 204, None

    seconds = settings.pace(world, account["name"], "lro_seconds")
    if not seconds:
        finish()
        return web.Response(status=200)
    _show(world, account, "Deleting", hide_principal=False)
    return arm.accepted(world, call, _operations_path(account), {}, finish, seconds=seconds)


def set_tenant(world: World, subscription: str, tenant: str) -> None:
    """Move the identities of a subscription's accounts into a tenant."""
    prefix = f"/subscriptions/{subscription}/".lower()
    for record in state(world).shelf:
        for body in (record.body, record.shown):
            identity = body.get("identity") or {}
            if identity.get("tenantId") and body["id"].lower().startswith(prefix):
                body["identity"] = {**identity, "tenantId": tenant}


def _shown(record: Record) -> dict[str, Any]:
    return record.shown


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register the accounts' ARM operations."""

    async def put(call: Call) -> web.Response:
        body = arm.read_object(call)
        record = state(world).shelf.get(_id(call))
        if record is None:
            account = account_bodies.new_body(world, call, _id(call), body)
            return _write(world, call, None, account)
        current = _settled(record)
        account = account_bodies.changed_body(world, call, current, {"tags": {}, **body})
        return _write(world, call, current, account)

    async def patch(call: Call) -> web.Response:
        body = arm.read_object(call)
        current = _settled(_existing(world, call))
        account = account_bodies.changed_body(world, call, current, body)
        return _write(world, call, current, account)

    async def get(call: Call) -> web.Response:
        return json_response(_existing(world, call).shown)

    async def delete(call: Call) -> web.Response:
        return _delete(world, call)

    async def list_accounts(call: Call) -> web.Response:
        scope = f"/subscriptions/{call.params['subscription']}"
        if "group" in call.params:
            scope += f"/resourceGroups/{call.params['group']}"
        return arm.list_page(world, call, state(world).shelf, scope, _shown)

    async def list_keys(call: Call) -> web.Response:
        account = _existing(world, call).body
        if account["properties"].get("disableLocalAuth"):
            raise ArmError(
                400, "BadRequest", "Failed to list key. disableLocalAuth is set to be true"
            )
        events.publish_resource(world, call, f"{TYPE}/listKeys/action", arm.written_id(call))
        keys = state(world).keys.setdefault(
            account["id"].lower(), {"key1": uuid4().hex, "key2": uuid4().hex}
        )
        return json_response(keys)

    async def result(call: Call) -> web.Response:
        return await arm.operation_result(world, call)

    table.add("PUT", _ONE, put)
    table.add("PATCH", _ONE, patch)
    table.add("GET", _ONE, get)
    table.add("DELETE", _ONE, delete)
    table.add("POST", f"{_ONE}/listKeys", list_keys)
    table.add("GET", _GROUP, list_accounts)
    table.add("GET", f"/subscriptions/{{subscription}}/providers/{TYPE}", list_accounts)
    table.add(
        "GET",
        "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices"
        "/locations/{location}/operationResults/{operation}",
        result,
    )
