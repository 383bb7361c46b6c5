"""Key Vault's data plane for secrets, at https://NAME.vault.azure.net.

Decides how secrets are shown and changed over HTTP. Who may is vault_access.py's, versions and
events are secret_store.py's. A vault that does not exist has no address: the connection drops.
"""

import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from dev.sandbox import tokens
from dev.sandbox.arm import role_definitions as actions
from dev.sandbox.arm import vault_store
from dev.sandbox.arm.vault_store import Vault
from dev.sandbox.http import Call, ConnectionDropped, Handler, Routes, json_response
from dev.sandbox.store import World
from dev.sandbox.vault import secret_answers, secret_store, vault_access
from dev.sandbox.vault.secret_store import NewVersion, Secret, Version
from dev.sandbox.vault.vault_access import VaultError

_NAME = re.compile(r"^[0-9a-zA-Z-]{1,127}$")
_MAX_VALUE = 25 * 1024
_CHALLENGE = (
    f'Bearer authorization="https://login.microsoftonline.com/{tokens.DEFAULT_TENANT}", '
    'resource="https://vault.azure.net"'
)

VaultHandler = Callable[[Call, Vault], Awaitable[web.Response]]


def _found(call: Call, vault: Vault) -> tuple[Secret, Version]:
    """Return the secret and the version that the path names, the current one if it names none."""
    name, wanted = call.params["name"], call.params.get("version")
    secret = vault.secrets.get(name.lower())
    if secret is None:
        raise secret_answers.missing(name)
    if not wanted:
        return secret, secret.current
    version = secret.versions.get(wanted.lower())
    if version is None:
        raise secret_answers.missing(f"{name}/{wanted}")
    return secret, version


def _object(call: Call) -> dict[str, Any]:
    try:
        body = call.json()
    except ValueError as error:
        raise secret_answers.bad("The request body must be JSON.") from error
    if not isinstance(body, dict):
        raise secret_answers.bad("The request body must be specified.")
    return body


def _times(body: dict[str, Any]) -> dict[str, Any]:
    attributes = body.get("attributes")
    if attributes is None:
        return {}
    if not isinstance(attributes, dict):
        raise secret_answers.bad("The parameter attributes has the wrong type.")
    for name in ("nbf", "exp"):
        if not isinstance(attributes.get(name, 0), int | None):
            raise secret_answers.bad(f"The parameter attributes.{name} must be in unix seconds.")
    return attributes


def routes(world: World) -> Handler:
    """Build the data plane of all vaults; the call's host says which."""

    async def get_secret(call: Call, vault: Vault) -> web.Response:
        secret, version = _found(call, vault)
        if not version.enabled:
            raise VaultError(
                403,
                "Forbidden",
                "Operation get is not allowed on a disabled secret.",
                "SecretDisabled",
            )
        return json_response(
            {"value": version.value} | secret_answers.bundle(vault, secret, version)
        )

    async def set_secret(call: Call, vault: Vault) -> web.Response:
        name, body = call.params["name"], _object(call)
        if not _NAME.match(name):
            raise secret_answers.bad(f"The request URI contains an invalid name: {name}")
        value = body.get("value")
        if not isinstance(value, str):
            raise secret_answers.bad("The parameter value is not specified.")
        if len(value) > _MAX_VALUE:
            raise secret_answers.bad(
                f"The parameter value must be at most {_MAX_VALUE} characters."
            )
        if name.lower() in vault.deleted_secrets:
            raise VaultError(
                409,
                "Conflict",
                f"Secret {name} is currently in a deleted but recoverable state, and its name "
                "cannot be reused; in this state, the secret can only be recovered or purged.",
                "ObjectIsDeletedButRecoverable",
            )
        attributes = _times(body)
        version = secret_store.add_version(
            world,
            vault.body,
            vault.secrets,
            name,
            NewVersion(
                value=value,
                enabled=attributes.get("enabled", True) is not False,
                nbf=attributes.get("nbf"),
                exp=attributes.get("exp"),
                content_type=body.get("contentType"),
                tags=body.get("tags"),
            ),
        )
        secret = vault.secrets[name.lower()]
        return json_response({"value": value} | secret_answers.bundle(vault, secret, version))

    async def update_secret(call: Call, vault: Vault) -> web.Response:
        secret, version = _found(call, vault)
        body = _object(call)
        attributes = _times(body)
        expiry = version.exp
        version.enabled = attributes.get("enabled", version.enabled) is not False
        version.nbf = attributes.get("nbf", version.nbf)
        version.exp = attributes.get("exp", version.exp)
        version.content_type = body.get("contentType", version.content_type)
        version.tags = body.get("tags", version.tags)
        version.updated = int(time.time())
        if version.exp != expiry and version is secret.current:
            secret_store.announce_expiry(world, vault.body, secret, version)
        return json_response(secret_answers.bundle(vault, secret, version))

    async def list_versions(call: Call, vault: Vault) -> web.Response:
        secret = vault.secrets.get(call.params["name"].lower()) or Secret(call.params["name"])
        versions = secret.versions.values()
        return secret_answers.page(
            world,
            call,
            vault,
            {v.version: partial(secret_answers.bundle, vault, secret, v) for v in versions},
        )

    async def list_secrets(call: Call, vault: Vault) -> web.Response:
        return secret_answers.page(
            world,
            call,
            vault,
            {
                name: partial(secret_answers.secret_item, vault, secret)
                for name, secret in vault.secrets.items()
            },
        )

    async def delete_secret(call: Call, vault: Vault) -> web.Response:
        secret, _ = _found(call, vault)
        del vault.secrets[secret.name.lower()]
        vault.deleted_secrets[secret.name.lower()] = secret
        secret.deleted_at = int(time.time())
        return json_response(secret_answers.deleted_bundle(vault, secret))

    def deleted(call: Call, vault: Vault) -> Secret:
        secret = vault.deleted_secrets.get(call.params["name"].lower())
        if secret is None:
            raise secret_answers.missing(call.params["name"])
        return secret

    async def get_deleted(call: Call, vault: Vault) -> web.Response:
        secret = deleted(call, vault)
        return json_response(secret_answers.deleted_bundle(vault, secret))

    async def recover(call: Call, vault: Vault) -> web.Response:
        secret = deleted(call, vault)
        vault.secrets[secret.name.lower()] = vault.deleted_secrets.pop(secret.name.lower())
        return json_response(secret_answers.bundle(vault, secret, secret.current))

    async def purge(call: Call, vault: Vault) -> web.Response:
        secret = deleted(call, vault)
        del vault.deleted_secrets[secret.name.lower()]
        return web.Response(status=204)

    async def not_found(call: Call) -> web.Response:
        raise secret_answers.bad(f"The request URI contains an invalid name: {call.path}")

    table = Routes(not_found)

    def add(method: str, pattern: str, action: str, handler: VaultHandler) -> None:
        async def guarded(call: Call) -> web.Response:
            vault = vault_store.by_name(world, call.host.split(".", 1)[0])
            if vault is None:
                raise ConnectionDropped
            vault_access.check(world, call, vault, action, call.params.get("name"))
            return await handler(call, vault)

        table.add(method, pattern, guarded)

    add("GET", "/secrets", actions.READ_METADATA, list_secrets)
    add("GET", "/secrets/<name>", actions.GET_SECRET, get_secret)
    add("GET", "/secrets/<name>/versions", actions.READ_METADATA, list_versions)
    add("GET", "/secrets/<name>/<version>", actions.GET_SECRET, get_secret)
    add("PUT", "/secrets/<name>", actions.SET_SECRET, set_secret)
    add("PATCH", "/secrets/<name>", actions.UPDATE_SECRET, update_secret)
    add("PATCH", "/secrets/<name>/<version>", actions.UPDATE_SECRET, update_secret)
    add("DELETE", "/secrets/<name>", actions.DELETE_SECRET, delete_secret)
    add("GET", "/deletedsecrets/<name>", actions.READ_METADATA, get_deleted)
    add("POST", "/deletedsecrets/<name>/recover", actions.DELETE_SECRET, recover)
    add("DELETE", "/deletedsecrets/<name>", actions.DELETE_SECRET, purge)

    async def answer(call: Call) -> web.StreamResponse:
        try:
            response = await table(call)
        except VaultError as error:
            headers = {"WWW-Authenticate": _CHALLENGE} if error.status == 401 else None
            response = json_response(error.body(), error.status, headers)
        response.headers["x-ms-keyvault-service-version"] = "1.9.0.sandbox"
        response.headers["x-ms-keyvault-region"] = "swedencentral"
        return response

    return answer
