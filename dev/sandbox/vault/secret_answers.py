"""How Key Vault shows secrets: bundles, items, pages, and its refusals of what is asked.

Decides the JSON only; which secret and who may see it are decided in vaults.py. Items and
bundles never hold a value: the one answer that has it adds it itself.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web

from dev.sandbox import settings
from dev.sandbox.arm.vault_store import Vault
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World
from dev.sandbox.vault import secret_store
from dev.sandbox.vault.secret_store import Secret, Version
from dev.sandbox.vault.vault_access import VaultError

RETENTION_S = 90 * 86_400


def _attributes(version: Version) -> dict[str, Any]:
    attributes: dict[str, Any] = {"enabled": version.enabled}
    if version.nbf is not None:
        attributes["nbf"] = version.nbf
    if version.exp is not None:
        attributes["exp"] = version.exp
    return attributes | {
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    }


def _item(version: Version, identifier: str) -> dict[str, Any]:
    item: dict[str, Any] = {"id": identifier, "attributes": _attributes(version)}
    if version.content_type is not None:
        item["contentType"] = version.content_type
    if version.tags is not None:
        item["tags"] = version.tags
    return item


def secret_item(vault: Vault, secret: Secret) -> dict[str, Any]:
    """Return a secret as a list shows it: its current version, without the version in the id."""
    return _item(secret.current, secret_store.identifier(vault.body, secret.name))


def bundle(vault: Vault, secret: Secret, version: Version) -> dict[str, Any]:
    """Return a version without its value."""
    return _item(version, secret_store.identifier(vault.body, secret.name, version.version))


def deleted_bundle(vault: Vault, secret: Secret) -> dict[str, Any]:
    """Return a deleted secret: its last version, when it went and when it goes for good."""
    deleted = secret.deleted_at or 0
    return bundle(vault, secret, secret.current) | {
        "recoveryId": f"{vault.body['properties']['vaultUri']}deletedsecrets/{secret.name}",
        "deletedDate": deleted,
        "scheduledPurgeDate": deleted + RETENTION_S,
    }


def bad(message: str) -> VaultError:
    return VaultError(400, "BadParameter", message)


def missing(name: str) -> VaultError:
    return VaultError(
        404,
        "SecretNotFound",
        f"A secret with (name/id) {name} was not found in this key vault. If you recently deleted "
        "this secret you may be able to recover it using the correct recovery command. For help "
        "resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
    )


def page(
    world: World, call: Call, vault: Vault, items: dict[str, Callable[[], dict[str, Any]]]
) -> web.Response:
    """Answer one page of items in order of their keys; nextLink is absolute, with port, as real."""
    asked = call.query.get("maxresults", "")
    size = settings.of(world).secret_page_size
    if asked:
        if not asked.isdecimal() or not 1 <= int(asked) <= 25:
            raise bad("The parameter maxresults must be from 1 to 25.")
        size = int(asked)
    after = call.query.get("$skiptoken", "")
    ordered = sorted(key for key in items if key > after)
    next_link = None
    if len(ordered) > size:
        query = {**dict(call.query), "$skiptoken": ordered[size - 1]}
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        host = vault.body["properties"]["vaultUri"].rstrip("/")
        next_link = f"{host}:443{call.path}?{text}"
    return json_response({"value": [items[key]() for key in ordered[:size]], "nextLink": next_link})
