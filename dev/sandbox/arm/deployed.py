"""What a deployment makes besides accounts and vaults: groups, topics, functions, alerts.

Of each the sandbox plays what the hooks in infra/hooks/ read, change and delete. A topic's event
subscriptions have states: `PUT /_sandbox/event-subscriptions` plans those of the next writes.
Source: Microsoft's REST reference of each provider, checked 24 Nov 2026.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from dev.sandbox.arm import accounts, arm, roles, vault_store
from dev.sandbox.arm.arm import ArmError, ArmRoutes
from dev.sandbox.http import Call, Routes, json_response
from dev.sandbox.shelf import Shelf
from dev.sandbox.store import World

Body = dict[str, Any]

_TOPICS = "Microsoft.EventGrid/systemTopics"
_IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"
_SITES = "Microsoft.Web/sites"
_TYPES = (
    _TOPICS,
    _IDENTITIES,
    _SITES,
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/metricAlerts",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Storage/storageAccounts",
)
_GROUP = "/subscriptions/{subscription}/resourceGroups/{group}"
_CHILDREN = (f"{_TOPICS}/{{topic}}/eventSubscriptions", f"{_SITES}/{{site}}/functions")


@dataclass
class Deployed:
    """Groups, resources and their children by id; the states that coming writes lead to."""

    groups: Shelf[Body] = field(default_factory=Shelf)
    resources: Shelf[Body] = field(default_factory=Shelf)
    children: Shelf[Body] = field(default_factory=Shelf)
    planned: list[list[str]] = field(default_factory=list)
    states: dict[str, list[str]] = field(default_factory=dict)


def _state(world: World) -> Deployed:
    return world.part("deployed", Deployed)


def resources(world: World, scope: str) -> list[Body]:
    """Return every resource below a subscription or group, accounts and vaults included."""
    shelves = (
        accounts.state(world).shelf,
        vault_store.state(world).shelf,
    )
    bodies = [item.body for shelf in shelves for item in shelf]
    prefix = scope.lower() + "/"
    return [
        body
        for body in (*bodies, *_state(world).resources)
        if body["id"].lower().startswith(prefix)
    ]


def _group(world: World, group_id: str) -> Body | None:
    """Return a group: one that was put, or one that a resource is in."""
    found = _state(world).groups.get(group_id)
    inside = resources(world, group_id)
    if found is not None or not inside:
        return found
    written = "/".join(inside[0]["id"].split("/")[:5])
    return _group_body(written, {"location": "swedencentral"})


def _group_body(group_id: str, given: Body) -> Body:
    return {
        "id": group_id,
        "name": group_id.rsplit("/", 1)[1],
        "type": "Microsoft.Resources/resourceGroups",
        "location": given["location"],
        "tags": given.get("tags") or {},
        "properties": {"provisioningState": "Succeeded"},
    }


def _existing_group(world: World, call: Call) -> Body:
    found = _group(world, call.path)
    if found is None:
        name = call.params["group"]
        raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
    return found


def _put_group(world: World, call: Call) -> web.Response:
    given, old = arm.read_object(call), _group(world, call.path)
    if old is not None and old["location"] != given.get("location"):
        raise ArmError(
            409,
            "InvalidResourceGroupLocation",
            f"Invalid resource group location '{given.get('location')}'. The Resource group "
            f"already exists in location '{old['location']}'.",
        )
    body = _group_body(arm.written_id(call), given)
    _state(world).groups.put(call.path, body)
    return json_response(body, 200 if old else 201)


def _delete_group(world: World, call: Call) -> web.Response:
    group = _existing_group(world, call)
    state = _state(world)
    for body in resources(world, group["id"]):
        state.resources.remove(body["id"])
        roles.drop_below(world, body["id"])
    state.groups.remove(group["id"])
    return web.Response(status=202)


def _list_resources(world: World, call: Call) -> web.Response:
    text = call.query.get("$filter", "").lower()
    scope = call.path.removesuffix("/resources")
    shelf: Shelf[Body] = Shelf()
    for body in resources(world, scope):
        tags = body.get("tags") or {}
        tagged = [
            f"tagname eq '{name}' and tagvalue eq '{value}'".lower() for name, value in tags.items()
        ]
        if not text or f"'{body['type'].lower()}'" in text or text in tagged:
            names = ("id", "name", "type", "location", "tags", "kind", "sku", "identity")
            shelf.put(body["id"], {name: body[name] for name in names if name in body})
    return arm.list_page(world, call, shelf, scope, dict)


def _put_resource(world: World, call: Call, kind: str) -> web.Response:
    given, state, path = arm.read_object(call), _state(world), arm.written_id(call)
    old = state.resources.get(path)
    properties: Body = {"provisioningState": "Succeeded"} | (given.get("properties") or {})
    if kind == _TOPICS:
        source = str(properties.get("source", "")).lower()
        for other in state.resources:
            if other["properties"].get("source", "").lower() == source and other is not old:
                raise ArmError(
                    400,
                    "InvalidRequest",
                    "Only one system topic is allowed per source. Source already has a system "
                    f"topic {other['id']}.",
                )
    if kind == _IDENTITIES:
        properties["principalId"] = str(uuid5(NAMESPACE_URL, f"{path.lower()}/principal"))
    body = {
        "id": path,
        "name": call.params["name"],
        "type": kind,
        "location": given.get("location", "global"),
        "tags": given.get("tags") or {},
        "properties": properties,
    }
    if given.get("identity"):
        principal = str(uuid5(NAMESPACE_URL, f"{path.lower()}/system"))
        body["identity"] = given["identity"] | {"principalId": principal}
    state.resources.put(path, body)
    return json_response(body, 200 if old else 201)


def _put_child(world: World, call: Call) -> web.Response:
    state = _state(world)
    parent = call.path.rsplit("/", 2)[0]
    if state.resources.get(parent) is None:
        parts = parent.split("/")
        raise arm.not_found("/".join(parts[6:8]), parts[-1], parts[4])
    properties = arm.read_object(call).get("properties") or {}
    destination = ((properties.get("destination") or {}).get("properties") or {}).get("resourceId")
    if destination and state.children.get(destination) is None:
        raise ArmError(
            400,
            "Endpoint validation",
            f"Destination endpoint not found. Resource details: resourceId: {destination}.",
        )
    old = state.children.get(call.path)
    if "topic" in call.params:
        state.states[call.path.lower()] = (
            state.planned.pop(0) if state.planned else ["Creating", "Succeeded"]
        )
    body = {"id": call.path, "name": call.params["name"], "properties": properties}
    state.children.put(call.path, body)
    return json_response(_child_body(state, body), 200 if old else 201)


def _child_body(state: Deployed, body: Body) -> Body:
    states = state.states.get(body["id"].lower())
    if not states:
        return body
    now = states.pop(0) if len(states) > 1 else states[0]
    return body | {"properties": body["properties"] | {"provisioningState": now}}


def _get_child(world: World, call: Call) -> web.Response:
    state = _state(world)
    body = state.children.get(call.path)
    if body is None:
        raise arm.not_found(
            "/".join(call.path.split("/")[6:8]), call.params["name"], call.params["group"]
        )
    return json_response(_child_body(state, body))


def _delete_child(world: World, call: Call) -> web.Response:
    found = _state(world).children.remove(call.path)
    return web.Response(status=204 if found is None else 202)


def _host_errors(world: World, call: Call) -> web.Response:
    """Answer as the Functions host does through ARM; a function's `errors` are set when put."""
    site = call.path.partition("/hostruntime/")[0]
    name = call.params.get("function", "")
    function = _state(world).children.get(f"{site}/functions/{name}")
    if name and function is None:
        return web.Response(status=404)
    errors = function["properties"].get("errors") if function else None
    return json_response({"errors": errors or []} if name else {"state": "Running"})


def control(table: Routes, world: World) -> None:
    """Register `PUT /_sandbox/event-subscriptions`: the states that the next writes lead to."""

    async def plan(call: Call) -> web.Response:
        body = call.json()
        if not isinstance(body, dict) or not isinstance(body.get("states"), list):
            raise ValueError("states: a list of lists of states, one list for each write")
        _state(world).planned = body["states"]
        return json_response(body)

    table.add("PUT", "/_sandbox/event-subscriptions", plan)


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register groups, the resource list, and the types that the hooks deal with."""

    async def get_group(call: Call) -> web.Response:
        return json_response(_existing_group(world, call))

    async def put_group(call: Call) -> web.Response:
        return _put_group(world, call)

    async def delete_group(call: Call) -> web.Response:
        return _delete_group(world, call)

    async def list_groups(call: Call) -> web.Response:
        subscription = f"/subscriptions/{call.params['subscription']}"
        ids = {one["id"].lower(): one for one in _state(world).groups}
        for one in resources(world, subscription):
            group_id = "/".join(one["id"].split("/")[:5])
            if group_id.lower() not in ids:
                ids[group_id.lower()] = _group(world, group_id) or {}
        return json_response(
            {"value": [one for key, one in ids.items() if key.startswith(subscription.lower())]}
        )

    async def list_resources(call: Call) -> web.Response:
        return _list_resources(world, call)

    table.add("GET", "/subscriptions/{subscription}/resourceGroups", list_groups)
    table.add("GET", _GROUP, get_group)
    table.add("PUT", _GROUP, put_group)
    table.add("DELETE", _GROUP, delete_group)
    table.add("GET", "/subscriptions/{subscription}/resources", list_resources)
    table.add("GET", f"{_GROUP}/resources", list_resources)
    for kind in _TYPES:
        _add_type(world, table, kind)
    for child in _CHILDREN:
        _add_child(world, table, f"{_GROUP}/providers/{child}")
    admin = f"{_GROUP}/providers/{_SITES}/{{site}}/hostruntime/{{admin}}"

    async def host_errors(call: Call) -> web.Response:
        return _host_errors(world, call)

    table.add("GET", f"{admin}/host/{{status}}", host_errors)
    table.add("GET", f"{admin}/functions/{{function}}/status", host_errors)


def _add_type(world: World, table: ArmRoutes, kind: str) -> None:
    async def put(call: Call) -> web.Response:
        return _put_resource(world, call, kind)

    async def get(call: Call) -> web.Response:
        found = _state(world).resources.get(call.path)
        if found is None:
            raise arm.not_found(kind, call.params["name"], call.params["group"])
        return json_response(found)

    async def delete(call: Call) -> web.Response:
        found = _state(world).resources.remove(call.path)
        return web.Response(status=204 if found is None else 200)

    async def list_all(call: Call) -> web.Response:
        scope = call.path.partition("/providers/")[0]
        shelf: Shelf[Body] = Shelf()
        for one in _state(world).resources:
            if one["type"] == kind:
                shelf.put(one["id"], one)
        return arm.list_page(world, call, shelf, scope, dict)

    one = f"{_GROUP}/providers/{kind}/{{name}}"
    table.add("PUT", one, put)
    table.add("GET", one, get)
    table.add("DELETE", one, delete)
    table.add("GET", f"{_GROUP}/providers/{kind}", list_all)
    table.add("GET", f"/subscriptions/{{subscription}}/providers/{kind}", list_all)


def _add_child(world: World, table: ArmRoutes, path: str) -> None:
    async def put(call: Call) -> web.Response:
        return _put_child(world, call)

    async def get(call: Call) -> web.Response:
        return _get_child(world, call)

    async def delete(call: Call) -> web.Response:
        return _delete_child(world, call)

    async def list_all(call: Call) -> web.Response:
        parent = call.path.rsplit("/", 1)[0]
        return arm.list_page(world, call, _state(world).children, parent, dict)

    table.add("PUT", f"{path}/{{name}}", put)
    table.add("GET", f"{path}/{{name}}", get)
    table.add("DELETE", f"{path}/{{name}}", delete)
    table.add("GET", path, list_all)
