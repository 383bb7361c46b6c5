"""Microsoft Entra's token endpoint and its discovery documents, as azure-identity asks for them.

Any client id and secret get a token; the tokens themselves are made in tokens.py.
"""

from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

from aiohttp import web

from dev.sandbox import tokens
from dev.sandbox.http import Call, Handler, Routes, json_response
from dev.sandbox.store import World

_AUTHORITY = "https://login.microsoftonline.com"


def _error(status: int, error: str, code: int, text: str) -> web.Response:
    return json_response(
        {
            "error": error,
            "error_description": f"AADSTS{code}: {text}",
            "error_codes": [code],
            "trace_id": str(uuid4()),
            "correlation_id": str(uuid4()),
        },
        status,
    )


async def _token(call: Call) -> web.Response:
    form = {
        name: values[0] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()
    }
    if form.get("grant_type") != "client_credentials":
        return _error(
            400, "unsupported_grant_type", 70003, "The sandbox knows client_credentials only."
        )
    client_id = form.get("client_id")
    if not client_id:
        return _error(400, "invalid_request", 900144, "The request body must contain 'client_id'.")
    if not (form.get("client_secret") or form.get("client_assertion")):
        return _error(
            401, "invalid_client", 7000218, "The request body must contain 'client_secret'."
        )
    scope = form.get("scope", "").split(" ")[0]
    if not scope.endswith("/.default"):
        return _error(
            400, "invalid_scope", 1002012, f"The scope '{scope}' must end with '/.default'."
        )
    return json_response(
        {
            "token_type": "Bearer",
            "expires_in": tokens.LIFETIME_S,
            "ext_expires_in": tokens.LIFETIME_S,
            "access_token": tokens.issue(
                call.params["tenant"], client_id, scope.removesuffix("/.default")
            ),
        },
        headers={"Cache-Control": "no-store, no-cache"},
    )


async def _discovery(call: Call) -> web.Response:
    tenant = call.params["tenant"]
    base = f"{_AUTHORITY}/{tenant}"
    return json_response(
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }
    )


async def _instance(call: Call) -> web.Response:
    metadata: list[dict[str, Any]] = [
        {
            "preferred_network": "login.microsoftonline.com",
            "preferred_cache": "login.windows.net",
            "aliases": ["login.microsoftonline.com", "login.windows.net", "sts.windows.net"],
        }
    ]
    return json_response(
        {
            "tenant_discovery_endpoint": (
                f"{_AUTHORITY}/{tokens.DEFAULT_TENANT}/v2.0/.well-known/openid-configuration"
            ),
            "api-version": "1.1",
            "metadata": metadata,
        }
    )


async def _not_found(call: Call) -> web.Response:
    return _error(404, "invalid_request", 900023, f"Nothing is known at '{call.path}'.")


def routes(world: World) -> Handler:
    del world  # tokens depend on the request alone
    table = Routes(_not_found)
    table.add("GET", "/common/discovery/instance", _instance)
    table.add("POST", "/<tenant>/oauth2/v2.0/token", _token)
    table.add("GET", "/<tenant>/v2.0/.well-known/openid-configuration", _discovery)
    return table
