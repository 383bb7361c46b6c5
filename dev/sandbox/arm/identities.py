"""Managed identities of a resource: what a write of `identity` makes of the one it has.

A system identity keeps its principal while it stays on and gets a new one each time it is
switched on; user identities exist in themselves and keep theirs. Source: facts from
`azure-mgmt-cognitiveservices` 14.1.0's models and Microsoft's managed-identity articles,
checked 24 Nov 2026.
"""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from dev.sandbox import settings
from dev.sandbox.arm.arm import ArmError
from dev.sandbox.store import World
from dev.sandbox.tokens import DEFAULT_TENANT

_TYPES = {
    frozenset({"none"}): "None",
    frozenset({"systemassigned"}): "SystemAssigned",
    frozenset({"userassigned"}): "UserAssigned",
    frozenset({"systemassigned", "userassigned"}): "SystemAssigned, UserAssigned",
}


@dataclass
class Principals:
    """When each principal of a system identity came to be (monotonic clock), and its account."""

    born: dict[str, tuple[float, str]] = field(default_factory=dict)


def is_known(world: World, principal: str) -> bool:
    """Tell whether the directory knows the principal yet; it knows all that others made."""
    known = world.part("identities", Principals).born.get(principal.lower())
    if known is None:
        return True
    born, account = known
    return time.monotonic() - born >= settings.pace(world, account, "principal_replication_s")


def after_write(
    world: World, account: str, current: dict[str, Any] | None, wanted: Any
) -> dict[str, Any]:
    """Return the identity that a write makes. Raises ArmError 400 for one that makes no sense.

    A plain SystemAssigned drops all user identities; the ids given are the whole new set.
    """
    if not isinstance(wanted, dict) or not isinstance(wanted.get("type"), str):
        raise _invalid("The identity must be an object with a type.")
    kinds = frozenset(part.strip().lower() for part in wanted["type"].split(","))
    kind = _TYPES.get(kinds)
    if kind is None:
        raise _invalid(f"The identity type '{wanted['type']}' is not supported.")
    identity: dict[str, Any] = {"type": kind}
    if "systemassigned" in kinds:
        identity["principalId"] = (current or {}).get("principalId") or _new_principal(
            world, account
        )
        identity["tenantId"] = DEFAULT_TENANT
    users = wanted.get("userAssignedIdentities") or {}
    if not isinstance(users, dict):
        raise _invalid("The property 'userAssignedIdentities' must be an object.")
    if "userassigned" not in kinds:
        if users:
            raise _invalid(f"The identity type '{kind}' takes no user assigned identities.")
        return identity
    chosen = [name for name, value in users.items() if value is not None]
    if not chosen:
        raise _invalid(f"The identity type '{kind}' needs at least one user assigned identity.")
    identity["userAssignedIdentities"] = {
        name: {
            "principalId": str(uuid5(NAMESPACE_URL, f"{name.lower()}/principal")),
            "clientId": str(uuid5(NAMESPACE_URL, f"{name.lower()}/client")),
        }
        for name in chosen
    }
    return identity


def _new_principal(world: World, account: str) -> str:
    principal = str(uuid4())
    world.part("identities", Principals).born[principal] = (time.monotonic(), account)
    return principal


def _invalid(message: str) -> ArmError:
    return ArmError(400, "InvalidIdentityValues", message)
