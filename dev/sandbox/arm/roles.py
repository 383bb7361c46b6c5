"""Role assignments: who has which role at which scope, as Azure RBAC answers for them.

Which roles exist is role_definitions.py's; what a role opens in a vault is vault_access.py's.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aiohttp import web

from dev.sandbox import events, settings, tokens
from dev.sandbox.arm import arm, identities, role_definitions
from dev.sandbox.arm.arm import ArmError, ArmRoutes
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World

TYPE = "Microsoft.Authorization/roleAssignments"

_PRINCIPAL = re.compile(r"(?:principalId\s+eq\s+'([^']+)'|assignedTo\('([^']+)'\))", re.IGNORECASE)
_AT_SCOPE = re.compile(r"atScope\(\)", re.IGNORECASE)


@dataclass
class Assignment:
    """One assignment: its ARM body, its scope in lower case, and when it was made (monotonic)."""

    body: dict[str, Any]
    scope: str
    made: float

    @property
    def triple(self) -> tuple[str, str, str]:
        properties = self.body["properties"]
        role = properties["roleDefinitionId"].rsplit("/", 1)[1]
        return self.scope, properties["principalId"].lower(), role.lower()


@dataclass
class Assignments:
    """Assignments by GUID (they are unique in a tenant) and by (scope, principal, role)."""

    by_name: dict[str, Assignment] = field(default_factory=dict)
    by_triple: dict[tuple[str, str, str], Assignment] = field(default_factory=dict)


def _state(world: World) -> Assignments:
    return world.part("roles", Assignments)


def _covers(scope: str, other: str) -> bool:
    """Tell whether `scope` is `other` or lies above it; both in lower case."""
    if scope in ("", "/") or scope == other:
        return True
    if scope.startswith("/providers/microsoft.management/managementgroups/"):
        return other.startswith("/subscriptions/")
    return other.startswith(scope + "/")


def allows(world: World, principal: str, data_action: str, scope: str) -> bool:
    """Tell whether a principal's roles at or above a scope include a data action by now."""
    settled = time.monotonic() - settings.of(world).rbac_propagation_s
    wanted, lower = principal.lower(), scope.lower()
    for (at, holder, role), assignment in _state(world).by_triple.items():
        if (
            holder == wanted
            and _covers(at, lower)
            and assignment.made <= settled
            and role_definitions.allows(role, data_action)
        ):
            return True
    return False


def drop_below(world: World, scope: str) -> None:
    """Forget all assignments at or below a scope, as deleting the resource does."""
    assignments = _state(world)
    for name, assignment in list(assignments.by_name.items()):
        if _covers(scope.lower(), assignment.scope):
            del assignments.by_name[name]
            del assignments.by_triple[assignment.triple]


def _name(call: Call) -> str:
    try:
        return str(UUID(call.params["name"]))
    except ValueError as error:
        raise ArmError(
            400,
            "InvalidRoleAssignmentId",
            f"The role assignment ID '{call.params['name']}' is not valid. "
            "The role assignment ID must be a GUID.",
        ) from error


def _found(world: World, call: Call) -> Assignment:
    name = _name(call)
    assignment = _state(world).by_name.get(name)
    if assignment is None or assignment.scope != call.params["scope"].lower():
        raise ArmError(404, "RoleAssignmentNotFound", f"The role assignment '{name}' is not found.")
    return assignment


def _wanted(call: Call) -> dict[str, Any]:
    """Return the properties of a PUT, with the role's GUID under `role`. Raises ArmError 400."""
    properties = arm.read_object(call).get("properties")
    if not isinstance(properties, dict):
        raise ArmError(400, "InvalidRequestContent", "The property 'properties' is required.")
    for name in ("roleDefinitionId", "principalId"):
        if not isinstance(properties.get(name), str):
            raise ArmError(400, "InvalidRequestContent", f"The property '{name}' is required.")
    try:
        UUID(properties["principalId"])
    except ValueError as error:
        raise ArmError(
            400,
            "InvalidPrincipalId",
            f"A valid principal ID must be provided for role assignment: "
            f"'{properties['principalId']}' is not a GUID.",
        ) from error
    return properties | {"role": properties["roleDefinitionId"].rsplit("/", 1)[-1].lower()}


def _put(world: World, call: Call, check_scope: Callable[[str], None]) -> web.Response:
    name, scope = _name(call), call.params["scope"]
    wanted = _wanted(call)
    if not role_definitions.is_known(world, wanted["role"]):
        raise role_definitions.not_defined(wanted["role"])
    check_scope(scope)
    principal = wanted["principalId"]
    if not identities.is_known(world, principal):
        raise ArmError(
            400,
            "PrincipalNotFound",
            f"Principal {principal.replace('-', '')} does not exist in the directory "
            f"{tokens.DEFAULT_TENANT}. Check that you have the correct principal ID. If you are "
            "creating this principal and then immediately assigning a role, this error might be "
            "related to a replication delay.",
        )
    assignments = _state(world)
    triple = (scope.lower(), principal.lower(), wanted["role"])
    named, same = assignments.by_name.get(name), assignments.by_triple.get(triple)
    if named is not None and named.triple != triple:
        raise ArmError(
            400,
            "RoleAssignmentUpdateNotPermitted",
            "Tenant ID, application ID, principal ID, role definition ID and scope are not "
            "allowed to be updated.",
        )
    if same is not None and same is not named:
        existing = same.body["name"].replace("-", "")
        raise ArmError(
            409,
            "RoleAssignmentExists",
            "The role assignment already exists. The ID of the existing role assignment is "
            f"{existing}.",
        )
    assignment = Assignment(
        _body(call, name, wanted, named), scope.lower(), named.made if named else time.monotonic()
    )
    assignments.by_name[name] = assignments.by_triple[triple] = assignment
    events.publish_resource(world, call, f"{TYPE}/write", f"{scope}/providers/{TYPE}/{name}")
    return json_response(assignment.body, 200 if named else 201)


def _body(
    call: Call, name: str, wanted: dict[str, Any], named: Assignment | None
) -> dict[str, Any]:
    scope = call.params["scope"]
    author = tokens.claims_of(call).get("oid")
    old = named.body["properties"] if named else {}
    return {
        "id": f"{scope.rstrip('/')}/providers/{TYPE}/{name}",
        "name": name,
        "type": TYPE,
        "properties": {
            "roleDefinitionId": wanted["roleDefinitionId"],
            "principalId": wanted["principalId"],
            "principalType": wanted.get("principalType", "User"),
            "scope": scope,
            "condition": wanted.get("condition"),
            "conditionVersion": wanted.get("conditionVersion"),
            "description": wanted.get("description"),
            "delegatedManagedIdentityResourceId": None,
            "createdOn": old.get("createdOn", arm.now()),
            "updatedOn": arm.now(),
            "createdBy": old.get("createdBy", author),
            "updatedBy": author,
        },
    }


def _delete(world: World, call: Call) -> web.Response:
    assignments = _state(world)
    scope, name = call.params["scope"], _name(call)
    assignment = assignments.by_name.get(name)
    if assignment is None or assignment.scope != scope.lower():
        return web.Response(status=204)
    del assignments.by_name[name]
    del assignments.by_triple[assignment.triple]
    events.publish_resource(world, call, f"{TYPE}/delete", f"{scope}/providers/{TYPE}/{name}")
    return json_response(assignment.body)


def _list(world: World, call: Call) -> web.Response:
    """List at, above and (without atScope()) below the scope, for one principal if asked."""
    text = call.query.get("$filter", "")
    rest = _AT_SCOPE.sub("", _PRINCIPAL.sub("", text)).replace("and", "").strip()
    if rest:
        raise ArmError(400, "UnsupportedQuery", f"The filter '{text}' is not supported.")
    match = _PRINCIPAL.search(text)
    principal = (match.group(1) or match.group(2)).lower() if match else None
    at_scope = bool(_AT_SCOPE.search(text))
    scope = call.params["scope"].lower()
    return json_response(
        {
            "value": [
                assignment.body
                for (at, holder, _), assignment in _state(world).by_triple.items()
                if (principal is None or holder == principal)
                and (_covers(at, scope) or (not at_scope and _covers(scope, at)))
            ]
        }
    )


def add_routes(world: World, table: ArmRoutes, check_scope: Callable[[str], None]) -> None:
    """Register role assignments at any scope; `check_scope` raises for one that is not there."""

    async def put(call: Call) -> web.Response:
        return _put(world, call, check_scope)

    async def get(call: Call) -> web.Response:
        return json_response(_found(world, call).body)

    async def delete(call: Call) -> web.Response:
        return _delete(world, call)

    async def list_for_scope(call: Call) -> web.Response:
        return _list(world, call)

    one = f"providers/{TYPE}/{{name}}"
    table.add_extension("PUT", one, put)
    table.add_extension("GET", one, get)
    table.add_extension("DELETE", one, delete)
    table.add_extension("GET", f"providers/{TYPE}", list_for_scope)
