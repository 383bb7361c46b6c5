"""Access tokens: what the sandbox's Entra issues, and what a bearer token says of its holder.

Nothing is verified: any bearer token is good, and one that is not a JWT has no claims.
"""

import base64
import binascii
import time
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from dev.sandbox.http import Call

DEFAULT_TENANT = "10000000-0000-4000-8000-000000000001"
LIFETIME_S = 3599


def object_id(tenant: str, client_id: str) -> str:
    """Return the object id of a client's service principal: the same each time it is asked."""
    return str(uuid5(NAMESPACE_URL, f"{tenant.lower()}/{client_id.lower()}"))


def issue(tenant: str, client_id: str, audience: str, oid: str | None = None) -> str:
    """Make an access token of one hour, with claims as Entra's v1 tokens have them."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME_S,
        "appid": client_id,
        "appidacr": "1",
        "idp": f"https://sts.windows.net/{tenant}/",
        "idtyp": "app",
        "oid": oid or object_id(tenant, client_id),
        "sub": oid or object_id(tenant, client_id),
        "tid": tenant,
        "ver": "1.0",
    }
    parts = ({"typ": "JWT", "alg": "none"}, claims)
    return ".".join(_encode(orjson.dumps(part)) for part in parts) + "." + _encode(b"sandbox")


def claims_of(call: Call) -> dict[str, Any]:
    """Return the claims of the call's bearer token; empty when there is none or it is no JWT."""
    return _claims(call.headers.get("Authorization", ""))


@lru_cache(maxsize=256)
def _claims(header: str) -> dict[str, Any]:
    parts = header.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
