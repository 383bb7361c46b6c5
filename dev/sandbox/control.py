"""The sandbox's own paths under /_sandbox: set the stage, inject faults, read what happened.

Bad bodies get 400 with `{"error", "field"}`. The job and run controls are registered by the
stand-ins that they belong to.
"""

import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from dev.sandbox import delivery, faults, notices, settings
from dev.sandbox.arm import accounts, deployed, vault_store
from dev.sandbox.http import Call, Handler, Routes, json_response
from dev.sandbox.openai import jobs
from dev.sandbox.store import World
from dev.sandbox.vault import secret_store, vault_access
from dev.sandbox.vault.secret_store import NewVersion
from dev.sandbox.wandb import runs

_SECRET_NAME = re.compile(r"^[0-9a-zA-Z-]{1,127}$")
_VAULT_NAME = re.compile(r"^[a-zA-Z][0-9a-zA-Z-]{1,22}[0-9a-zA-Z]$")
_SECRET_FIELDS = {"value", "expires", "enabled", "not_before"}


def _object(call: Call) -> dict[str, Any]:
    try:
        body = call.json()
    except ValueError as error:
        raise ValueError(f"body: not JSON ({error})") from error
    if not isinstance(body, dict):
        raise ValueError("body: must be a JSON object")
    return body


def _put_secret(world: World, call: Call) -> web.Response:
    vault_name, name = call.params["vault"], call.params["secret"]
    if not _VAULT_NAME.match(vault_name):
        raise ValueError(f"vault: {vault_name} is no vault name (3-24 letters, digits, hyphens)")
    if not _SECRET_NAME.match(name):
        raise ValueError(f"secret: {name} is no secret name (1-127 letters, digits, hyphens)")
    body = _object(call)
    if unknown := sorted(set(body) - _SECRET_FIELDS):
        raise ValueError(f"{unknown[0]}: unknown field; known: {', '.join(sorted(_SECRET_FIELDS))}")
    if not isinstance(body.get("value"), str):
        raise ValueError("value: must be text")
    enabled = body.get("enabled")
    if enabled is not None and not isinstance(enabled, bool):
        raise ValueError("enabled: true or false")
    new = NewVersion(
        value=body["value"],
        enabled=enabled is not False,
        nbf=secret_store.read_time("not_before", body.get("not_before")),
        exp=secret_store.read_time("expires", body.get("expires")),
    )
    vault = vault_store.ensure(world, vault_name)
    # A control call that sets a deleted secret means to have it: it starts afresh.
    vault.deleted_secrets.pop(name.lower(), None)
    version = secret_store.add_version(world, vault.body, vault.secrets, name, new)
    identifier = secret_store.identifier(vault.body, name, version.version)
    return json_response({"id": identifier, "version": version.version})


def _put_access(world: World, call: Call) -> web.Response:
    body = _object(call)
    deny = body.get("deny")
    if set(body) != {"deny"} or deny not in (None, *vault_access.DENIALS):
        raise ValueError(f"deny: null or one of {', '.join(vault_access.DENIALS)}")
    vault_store.ensure(world, call.params["vault"]).deny = deny
    return json_response({"deny": deny})


async def _deliver(world: World, call: Call) -> web.Response:
    body = _object(call)
    function, events = body.get("function"), body.get("events")
    if not isinstance(function, str) or not function:
        raise ValueError("function: the name of the function to deliver to")
    if not isinstance(events, list):
        raise ValueError("events: must be a list")
    return json_response([await delivery.deliver_now(world, function, event) for event in events])


def _requests(world: World) -> list[dict[str, Any]]:
    return [
        {"service": service, "method": method, "path": path, "status": status, "count": count}
        for (service, method, path, status), count in world.requests.items()
    ]


def _add_fault(world: World, call: Call) -> web.Response:
    fault = faults.parse(_object(call))
    world.faults.append(fault)
    return json_response(fault.as_json())


def _end_faults(world: World, call: Call) -> web.Response:
    """Remove the rules of a name, or all; what they hold goes on."""
    name = call.params.get("name")
    ended = [fault for fault in world.faults if name in (None, fault.name)]
    for fault in ended:
        world.faults.remove(fault)
        fault.removed.set()
    return json_response({"cleared": len(ended), "hits": sum(item.hit_count for item in ended)})


def _put_settings(world: World, call: Call) -> web.Response:
    settings.update(world, _object(call))
    return json_response(settings.as_json(world))


def _put_pace(world: World, call: Call) -> web.Response:
    settings.set_pace(world, call.params["account"], _object(call))
    return json_response(settings.pace_as_json(world, call.params["account"]))


def _name_by_subdomain(world: World, call: Call) -> None:
    """Turn an account's name in the path into its subdomain, by which the jobs are kept."""
    parts = call.path.split("/")
    if len(parts) > 3 and parts[2] == "accounts":
        subdomain = accounts.subdomain_of(world, parts[3])
        if subdomain is not None:
            parts[3] = subdomain.lower()
            call.path = "/".join(parts)


def routes(world: World) -> Handler:
    """Build all control paths, those of the jobs and runs included."""

    async def not_found(call: Call) -> web.Response:
        return json_response({"error": f"no control path {call.method} {call.path}"}, 404)

    table = Routes(not_found)

    def add(method: str, path: str, answer: Callable[[Call], web.Response]) -> None:
        async def handle(call: Call) -> web.Response:
            return answer(call)

        table.add(method, f"/_sandbox/{path}", handle)

    def clear(things: Callable[[], Any]) -> Callable[[Call], web.Response]:
        def answer(_call: Call) -> web.Response:
            count = len(things())
            things().clear()
            return json_response({"cleared": count})

        return answer

    def reset(_call: Call) -> web.Response:
        world.reset()
        return json_response({"ok": True})

    async def deliver(call: Call) -> web.Response:
        return await _deliver(world, call)

    add("GET", "health", lambda _: json_response({"ok": True}))
    add("POST", "reset", reset)
    add("GET", "settings", lambda _: json_response(settings.as_json(world)))
    add("PUT", "settings", lambda call: _put_settings(world, call))
    add("PUT", "settings/<account>", lambda call: _put_pace(world, call))
    add("GET", "requests", lambda _: json_response(_requests(world)))
    add("DELETE", "requests", clear(lambda: world.requests))
    add("GET", "faults", lambda _: json_response([fault.as_json() for fault in world.faults]))
    add("POST", "faults", lambda call: _add_fault(world, call))
    add("DELETE", "faults", lambda call: _end_faults(world, call))
    add("DELETE", "faults/<name>", lambda call: _end_faults(world, call))
    add("GET", "notices", lambda _: json_response(notices.published(world)))
    add("DELETE", "notices", clear(lambda: notices.published(world)))
    add("GET", "deliveries", lambda _: json_response(delivery.as_json(world)))
    add("PUT", "vaults/<vault>/secrets/<secret>", lambda call: _put_secret(world, call))
    add("PUT", "vaults/<vault>/access", lambda call: _put_access(world, call))
    table.add("POST", "/_sandbox/events", deliver)
    deployed.control(table, world)
    jobs.control(table, world)
    runs.control(table, world)

    async def answer(call: Call) -> web.StreamResponse:
        _name_by_subdomain(world, call)
        try:
            return await table(call)
        except ValueError as error:
            text = str(error)
            field, colon, _ = text.partition(":")
            return json_response({"error": text, "field": field if colon else None}, 400)

    return answer
