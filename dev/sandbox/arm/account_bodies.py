"""What an account looks like: the properties and URLs that the service gives it.

Decides the JSON of an account from the body of a write; when it may be written, and how long
that takes, is accounts.py's.
"""

import re
from typing import Any
from uuid import uuid4

from dev.sandbox import tokens
from dev.sandbox.arm import arm, identities
from dev.sandbox.arm.arm import ArmError
from dev.sandbox.http import Call
from dev.sandbox.store import World

TYPE = "Microsoft.CognitiveServices/accounts"

_UPGRADES = {("OpenAI", "AIServices"), ("AIServices", "OpenAI")}
"""Kinds that an account may turn into: the documented upgrade and its way back."""

_SUBDOMAIN = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9-]{0,62}[a-zA-Z0-9]$")

_READ_ONLY = {
    "endpoint",
    "endpoints",
    "internalId",
    "dateCreated",
    "provisioningState",
    "isMigrated",
    "capabilities",
    "callRateLimit",
    "privateEndpointConnections",
}
_OPENAI_APIS = (
    "OpenAI Language Model Instance API",
    "OpenAI Dall-E API",
    "OpenAI Moderations API",
    "OpenAI Realtime API",
    "OpenAI Whisper API",
    "OpenAI Model Scaleset API",
)


def new_body(world: World, call: Call, account_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make an account from the body of a PUT. Raises ArmError 400 without kind or location."""
    if not body.get("location"):
        raise ArmError(
            400, "LocationRequired", "The location property is required for this definition."
        )
    if not body.get("kind"):
        raise ArmError(400, "InvalidRequestContent", "The property 'kind' is required.")
    account: dict[str, Any] = {
        "id": account_id,
        "name": account_id.rsplit("/", 1)[1],
        "type": TYPE,
        "etag": "",
        "location": str(body["location"]).lower().replace(" ", ""),
        "kind": body["kind"],
        "sku": {"name": "S0"},
        "tags": {},
        "properties": {
            "internalId": uuid4().hex,
            "dateCreated": arm.now(),
            "isMigrated": False,
            "publicNetworkAccess": "Enabled",
            "privateEndpointConnections": [],
            "capabilities": [
                {"name": "VirtualNetworks"},
                {"name": "CustomerManagedKey"},
                {"name": "TrustedServices", "value": "Microsoft.CognitiveServices"},
            ],
            "callRateLimit": {"rules": []},
            "disableLocalAuth": False,
        },
        "systemData": {},
    }
    return changed_body(world, call, account, body)


def changed_body(
    world: World, call: Call, account: dict[str, Any], body: dict[str, Any]
) -> dict[str, Any]:
    """Return a new body with the changes of a PUT or PATCH; what is absent stays.

    Tags are replaced whole. Raises ArmError for a change that the service does not allow.
    """
    changed = {**account, "properties": dict(account["properties"])}
    kind = body.get("kind")
    if kind and kind != account["kind"]:
        if (account["kind"], kind) not in _UPGRADES:
            raise ArmError(
                400, "UpdateKindNotAllowed", "It's not allowed to update kind of API account."
            )
        changed["kind"] = kind
    location = str(body.get("location") or "").lower().replace(" ", "")
    if location and location != account["location"]:
        raise ArmError(
            409,
            "InvalidResourceLocation",
            f"The resource '{account['name']}' already exists in location "
            f"'{account['location']}'. A resource with the same name cannot be created in "
            f"location '{location}'. Please select a new resource name.",
        )
    if body.get("sku"):
        changed["sku"] = body["sku"]
    if body.get("tags") is not None:
        changed["tags"] = _tags(body["tags"])
    if body.get("identity") is not None:
        changed["identity"] = identities.after_write(
            world, account["name"], account.get("identity"), body["identity"]
        )
    _set_properties(changed, body.get("properties") or {})
    author = tokens.claims_of(call).get("appid", "unknown")
    system = account["systemData"]
    changed["systemData"] = {
        "createdBy": system.get("createdBy", author),
        "createdByType": "Application",
        "createdAt": system.get("createdAt", arm.now()),
        "lastModifiedBy": author,
        "lastModifiedByType": "Application",
        "lastModifiedAt": arm.now(),
    }
    changed["etag"] = f'"{uuid4()}"'
    return changed


def _set_properties(account: dict[str, Any], wanted: dict[str, Any]) -> None:
    properties = account["properties"]
    old = properties.get("customSubDomainName")
    new = wanted.get("customSubDomainName")
    if new is not None and not (isinstance(new, str) and _SUBDOMAIN.match(new)):
        raise ArmError(
            400, "InvalidCustomSubDomainName", f"The subdomain name '{new}' is not valid."
        )
    if old and new and new.lower() != old.lower():
        raise ArmError(
            400,
            "CustomDomainNameCannotBeChanged",
            "The custom subdomain name of an account cannot be changed.",
        )
    for name, value in wanted.items():
        if name not in _READ_ONLY and value is not None:
            properties[name] = value
    properties["endpoint"], properties["endpoints"] = _urls(
        account["kind"], account["location"], properties.get("customSubDomainName")
    )


def _urls(kind: str, location: str, subdomain: str | None) -> tuple[str, dict[str, str]]:
    """Return the primary endpoint and the named ones. Without a subdomain they are regional."""
    if not subdomain:
        region = f"https://{location}.api.cognitive.microsoft.com/"
        return region, dict.fromkeys((*_OPENAI_APIS, "Token"), region)
    host = subdomain.lower()
    openai = f"https://{host}.openai.azure.com/"
    cognitive = f"https://{host}.cognitiveservices.azure.com/"
    endpoints = dict.fromkeys(_OPENAI_APIS, openai)
    if kind == "OpenAI":
        return openai, endpoints | {"Token": cognitive}
    foundry = f"https://{host}.services.ai.azure.com/"
    return cognitive, endpoints | {
        "AI Foundry API": foundry,
        "Azure AI Model Inference API": foundry,
        "Content Safety": cognitive,
        "SpeechServices": cognitive,
        "Token": cognitive,
    }


def _tags(tags: Any) -> dict[str, str]:
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ArmError(400, "InvalidTags", "Tags must be an object with text values.")
    if len(tags) > 50:
        raise ArmError(400, "InvalidTags", f"{len(tags)} tags are too many; the limit is 50.")
    for name, value in tags.items():
        if not 0 < len(name) <= 512 or len(value) > 256:
            raise ArmError(
                400, "InvalidTagNameOrValue", f"The tag '{name[:50]}' or its value is too long."
            )
    return tags
