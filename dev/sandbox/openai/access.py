"""Who may call an account's data plane: roles that are missing or fresh, audiences, networks.

A role that is missing, or that has not spread yet, answers 401; 403 is the network's. A key
(`api-key`) is subject to none of it but the network.
Source: azure-docs#114370, semantic-kernel#10020; Microsoft's troubleshooting page of 20 Sep 2026.
"""

import time
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from dev.sandbox import settings, tokens
from dev.sandbox.http import Call, json_response
from dev.sandbox.openai.wire import answer_json, unauthorised
from dev.sandbox.store import World

DENIALS: Final = ("PermissionDenied", "audience", "firewall")
_COGNITIVE: Final = "https://cognitiveservices.azure.com"
_FOUNDRY: Final = "https://ai.azure.com"


@dataclass
class _Doors:
    """By account in lower case: when it was first called, and what refuses calls until when."""

    opened: dict[str, float] = field(default_factory=dict)
    denied: dict[str, tuple[str, float]] = field(default_factory=dict)


def put_access(world: World, call: Call) -> web.Response:
    """Answer the control path: `{"deny", "seconds"}`, for ever where no seconds are given."""
    body = call.json()
    if not isinstance(body, dict) or (unknown := set(body) - {"deny", "seconds"}):
        raise ValueError(f"{min(unknown)}: unknown field" if body else "deny: missing")
    deny, seconds = body.get("deny"), body.get("seconds")
    if deny not in (None, *DENIALS):
        raise ValueError(f"deny: null or one of {', '.join(DENIALS)}")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
        raise ValueError("seconds: a number, or null")
    doors, account = world.part("data-plane-access", _Doors), call.params["account"].lower()
    doors.denied.pop(account, None)
    if deny is not None:
        until = float("inf") if seconds is None else time.time() + seconds
        doors.denied[account] = (deny, until)
    return json_response({"deny": deny, "seconds": seconds})


def refused(world: World, call: Call) -> web.Response | None:
    """Return the refusal that this call meets, or None where it may pass."""
    keyed = bool(call.headers.get("api-key", "").strip())
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    if not keyed and not (scheme.lower() == "bearer" and token.strip()):
        return unauthorised()
    doors = world.part("data-plane-access", _Doors)
    account, now = call.host.partition(".")[0], time.time()
    deny, until = doors.denied.get(account, (None, 0.0))
    if now >= until:
        deny = None
    if deny == "firewall":
        return _denied(403, "AccessDenied", "Access denied due to Virtual Network/Firewall rules.")
    if keyed:
        return None
    wanted = _FOUNDRY if call.host.endswith(".services.ai.azure.com") else _COGNITIVE
    audience = tokens.claims_of(call).get("aud", wanted)
    if deny == "audience" or str(audience).rstrip("/") != wanted:
        return unauthorised(wanted)
    spread = doors.opened.setdefault(account, now) + settings.of(world).openai_role_s
    if deny == "PermissionDenied" or now < spread:
        return _permission_denied(call)
    return None


def _permission_denied(call: Call) -> web.Response:
    principal = tokens.claims_of(call).get("oid", "00000000-0000-0000-0000-000000000000")
    action = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/read"
    message = (
        f"The principal `{principal}` lacks the required data action `{action}` to perform "
        f"`{call.method} {call.path}` operation."
    )
    return _denied(401, "PermissionDenied", message)


def _denied(status: int, code: str, message: str) -> web.Response:
    return answer_json({"error": {"code": code, "message": message}}, status)
