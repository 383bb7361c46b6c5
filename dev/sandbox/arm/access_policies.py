"""Vault access policies: what add, replace and remove make of the entries a vault has.

An entry belongs to a tenant, an object id and, rarely, an application id; within it, each kind
(secrets, keys, …) has a list of permissions that compare without regard to case.
"""

from typing import Any

from dev.sandbox.arm.arm import ArmError

_KINDS = ("keys", "secrets", "certificates", "storage")
_LIMIT = 1024

Entry = dict[str, Any]


def _key(entry: Entry) -> tuple[str, str, str]:
    return (
        str(entry.get("tenantId", "")).lower(),
        str(entry.get("objectId", "")).lower(),
        str(entry.get("applicationId") or "").lower(),
    )


def read(entries: Any) -> list[Entry]:
    """Return well-formed entries. Raises ArmError 400 for others or for too many."""
    if not isinstance(entries, list):
        raise ArmError(400, "BadRequest", "The property 'accessPolicies' must be a list.")
    if len(entries) > _LIMIT:
        raise ArmError(400, "BadRequest", f"A vault takes at most {_LIMIT} access policies.")
    for entry in entries:
        if (
            not isinstance(entry, dict)
            or not entry.get("tenantId")
            or not entry.get("objectId")
            or not isinstance(entry.get("permissions"), dict)
        ):
            raise ArmError(
                400,
                "BadRequest",
                "Each access policy needs 'tenantId', 'objectId' and 'permissions'.",
            )
    return entries


def combine(current: list[Entry], operation: str, given: list[Entry]) -> list[Entry]:
    """Return the entries after add, replace or remove. Raises ArmError 400 for another word."""
    entries = {_key(entry): entry for entry in current}
    for entry in given:
        key = _key(entry)
        old = entries.get(key)
        match operation.lower():
            case "add":
                entries[key] = entry if old is None else _merged(old, entry)
            case "replace":
                entries[key] = entry
            case "remove":
                rest = None if old is None else _without(old, entry)
                if rest is None:
                    entries.pop(key, None)
                else:
                    entries[key] = rest
            case _:
                raise ArmError(400, "BadRequest", f"The operation '{operation}' is not supported.")
    return read(list(entries.values()))


def allows(entries: list[Entry], object_id: str, permission: str) -> bool:
    """Tell whether an object id has a permission on secrets, `all` included."""
    return any(
        str(entry.get("objectId", "")).lower() == object_id.lower()
        and {permission, "all"} & _lower(entry, "secrets")
        for entry in entries
    )


def _lower(entry: Entry, kind: str) -> set[str]:
    return {str(name).lower() for name in entry["permissions"].get(kind) or ()}


def _merged(old: Entry, new: Entry) -> Entry:
    permissions = dict(old["permissions"])
    for kind in _KINDS:
        have = _lower(old, kind)
        more = [n for n in new["permissions"].get(kind) or () if str(n).lower() not in have]
        if more:
            permissions[kind] = [*(permissions.get(kind) or ()), *more]
    return {**old, "permissions": permissions}


def _without(old: Entry, given: Entry) -> Entry | None:
    """Return the entry without the permissions given; None when none are left."""
    permissions = {
        kind: [
            name
            for name in old["permissions"].get(kind) or ()
            if str(name).lower() not in _lower(given, kind)
        ]
        for kind in _KINDS
        if kind in old["permissions"]
    }
    return {**old, "permissions": permissions} if any(permissions.values()) else None
