"""Who may do what in a vault: the refusals that Key Vault gives, with its own codes.

Decided in Key Vault's order: token, network, then permission. Permissions are checked only
where the setting `enforce_vault_access` asks for it; by default any bearer token may.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from dev.sandbox import settings, tokens
from dev.sandbox.arm import access_policies, role_definitions, roles
from dev.sandbox.arm.vault_store import Vault
from dev.sandbox.http import Call
from dev.sandbox.store import World

DENIALS = ("ForbiddenByRbac", "AccessDenied", "ForbiddenByFirewall", "ForbiddenByConnection")

_PERMISSIONS = {
    role_definitions.GET_SECRET: "get",
    role_definitions.READ_METADATA: "list",
    role_definitions.SET_SECRET: "set",
    role_definitions.UPDATE_SECRET: "set",
    role_definitions.DELETE_SECRET: "delete",
}


class VaultError(Exception):
    """A refusal of the data plane: `{"error": {"code", "message", "innererror"}}`."""

    def __init__(self, status: int, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


def check(world: World, call: Call, vault: Vault, data_action: str, secret: str | None) -> None:
    """Raise VaultError when the vault refuses this caller, this address or this action."""
    if "Authorization" not in call.headers:
        raise VaultError(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
    denial = vault.deny or _network_denial(call, vault)
    if denial is None and settings.of(world).enforce_vault_access:
        denial = _permission_denial(world, call, vault, data_action, secret)
    if denial is not None:
        message = _message(call, vault, denial, data_action, secret)
        raise VaultError(403, "Forbidden", message, denial)


def _network_denial(call: Call, vault: Vault) -> str | None:
    properties = vault.body["properties"]
    if str(properties.get("publicNetworkAccess")).lower() == "disabled":
        return "ForbiddenByConnection"
    rules = properties.get("networkAcls") or {}
    if str(rules.get("defaultAction", "Allow")).lower() == "allow":
        return None
    address = ip_address(call.request.remote or "127.0.0.1")
    for rule in rules.get("ipRules") or ():
        if address in ip_network(rule["value"], strict=False):
            return None
    return "ForbiddenByFirewall"


def _permission_denial(
    world: World, call: Call, vault: Vault, data_action: str, secret: str | None
) -> str | None:
    caller = str(tokens.claims_of(call).get("oid", ""))
    properties = vault.body["properties"]
    if properties["enableRbacAuthorization"]:
        scope = vault.body["id"] + (f"/secrets/{secret}" if secret else "")
        return None if roles.allows(world, caller, data_action, scope) else "ForbiddenByRbac"
    permission = _PERMISSIONS[data_action]
    if access_policies.allows(properties["accessPolicies"], caller, permission):
        return None
    return "AccessDenied"


def _message(call: Call, vault: Vault, denial: str, data_action: str, secret: str | None) -> str:
    """Word the refusal as Key Vault does: the caller's ids are in it, never a value."""
    claims = tokens.claims_of(call)
    caller = ";".join(f"{name}={claims.get(name, '')}" for name in ("appid", "oid", "iss"))
    place = f"{vault.body['name']};location={vault.body['location']}"
    match denial:
        case "ForbiddenByRbac":
            resource = vault.body["id"].lower() + (f"/secrets/{secret}" if secret else "")
            return (
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, "
                "deny assignments or role definitions were changed recently, please observe "
                f"propagation time.\r\nCaller: {caller}\r\nAction: '{data_action}'\r\n"
                f"Resource: '{resource}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"
                f"DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: {place}\r\n"
            )
        case "AccessDenied":
            return (
                f"The user, group or application '{caller}' does not have secrets "
                f"{_PERMISSIONS[data_action]} permission on key vault '{place}'. For help "
                "resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287"
            )
        case "ForbiddenByFirewall":
            return (
                "Client address is not authorized and caller is not a trusted service.\r\n"
                f"Client address: {call.request.remote}\r\nCaller: {caller}\r\nVault: {place}"
            )
        case _:
            return (
                "Public network access is disabled and request is not from a trusted service nor "
                f"via an approved private link.\r\nCaller: {caller}\r\nVault: {place}"
            )
