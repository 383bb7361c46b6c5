"""Azure's built-in roles that the project deals with: names, GUIDs and what they allow on secrets.

Custom roles are kept as they are put; they allow nothing here.

Source: Microsoft's list of built-in roles, checked 24 Nov 2026. Data actions are given for the
roles whose data actions matter here, no other permissions are played.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dev.sandbox.arm.arm import ArmError, ArmRoutes, read_object
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World

TYPE = "Microsoft.Authorization/roleDefinitions"

_ROLES = {
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "21090545-7ca7-4776-b22c-e363652d74d2": "Key Vault Reader",
    "f25e0fa2-a7c8-4377-a976-54943a77a395": "Key Vault Contributor",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": "Key Vault Administrator",
    "8b54135c-b56d-4d72-a534-26097cfdc8d8": "Key Vault Data Access Administrator",
    "a001fd3d-188f-4b5d-821b-7da978bf7442": "Cognitive Services OpenAI Contributor",
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
    "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68": "Cognitive Services Contributor",
    "b59867f0-fa02-499b-be73-45a86b5b3e1c": "Cognitive Services Data Reader",
    "53ca6127-db72-4b80-b1b0-d745d6d5456d": "Foundry User",
    "c883944f-8b7b-4483-af10-35834be79c4a": "Foundry Owner",
    "e47c6f54-e4a2-4754-9501-8e0985b135e1": "Foundry Account Owner",
    "eadc314b-1a2d-4efa-be10-5d325db5065e": "Foundry Project Manager",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
    "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "8a0f0c08-91a1-4084-bc3d-661d67233fed": "Storage Queue Data Message Processor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
    "1e241071-0855-49ea-94dc-649edcd759de": "EventGrid Contributor",
    "428e0ff0-5e57-4d9c-a221-2c70d0e0a443": "EventGrid EventSubscription Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "0b962ed2-6d56-471c-bd5f-3477d83a7ba4": (
        "Azure Resource Notifications System Topics Subscriber"
    ),
}

GET_SECRET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
READ_METADATA = "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
SET_SECRET = "Microsoft.KeyVault/vaults/secrets/setSecret/action"
UPDATE_SECRET = "Microsoft.KeyVault/vaults/secrets/update/action"
DELETE_SECRET = "Microsoft.KeyVault/vaults/secrets/delete"

_DATA_ACTIONS = {
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": ("Microsoft.KeyVault/vaults/secrets/*",),
    "4633458b-17de-408a-b874-0445c86b69e6": (GET_SECRET, READ_METADATA),
    "21090545-7ca7-4776-b22c-e363652d74d2": ("Microsoft.KeyVault/vaults/*/read", READ_METADATA),
    "00482a5a-887f-4fb3-b363-3b7fe8e74483": ("Microsoft.KeyVault/vaults/*",),
    "a001fd3d-188f-4b5d-821b-7da978bf7442": ("Microsoft.CognitiveServices/accounts/OpenAI/*",),
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": ("Microsoft.CognitiveServices/accounts/OpenAI/*/read",),
}

_ROLE_NAME = re.compile(r"roleName eq '([^']*)'", re.IGNORECASE)


@dataclass
class Custom:
    """Custom roles by GUID."""

    roles: dict[str, dict[str, Any]] = field(default_factory=dict)


def _custom(world: World) -> dict[str, dict[str, Any]]:
    return world.part("custom roles", Custom).roles


def is_known(world: World, guid: str) -> bool:
    return guid.lower() in _ROLES or guid.lower() in _custom(world)


def allows(guid: str, data_action: str) -> bool:
    """Tell whether a role includes a data action."""
    for pattern in _DATA_ACTIONS.get(guid.lower(), ()):
        prefix, star, suffix = pattern.partition("*")
        if data_action == pattern:
            return True
        if star and data_action.startswith(prefix) and data_action.endswith(suffix):
            return True
    return False


def not_defined(guid: str) -> ArmError:
    text = f"The specified role definition with ID '{guid.replace('-', '')}' does not exist."
    return ArmError(404, "RoleDefinitionDoesNotExist", text)


def _body(scope: str, guid: str) -> dict[str, Any]:
    parts = scope.split("/")
    in_subscription = len(parts) > 2 and parts[1].lower() == "subscriptions"
    prefix = f"/subscriptions/{parts[2]}" if in_subscription else ""
    return {
        "id": f"{prefix}/providers/{TYPE}/{guid}",
        "name": guid,
        "type": TYPE,
        "properties": {
            "roleName": _ROLES[guid],
            "type": "BuiltInRole",
            "description": _ROLES[guid],
            "assignableScopes": ["/"],
            "permissions": [
                {
                    "actions": [],
                    "notActions": [],
                    "dataActions": list(_DATA_ACTIONS.get(guid, ())),
                    "notDataActions": [],
                }
            ],
            "createdOn": "2015-02-02T21:55:09.8806423Z",
            "updatedOn": "2021-11-11T20:13:47.8628684Z",
            "createdBy": None,
            "updatedBy": None,
        },
    }


def _get(world: World, call: Call) -> web.Response:
    guid = call.params["name"].lower()
    if guid in _custom(world):
        return json_response(_custom(world)[guid])
    if guid not in _ROLES:
        raise not_defined(guid)
    return json_response(_body(call.params["scope"], guid))


def _put(world: World, call: Call) -> web.Response:
    guid, scope = call.params["name"].lower(), call.params["scope"]
    subscription = "/".join(scope.split("/")[:3])
    body = {
        "id": f"{subscription}/providers/{TYPE}/{guid}",
        "name": guid,
        "type": TYPE,
        "properties": read_object(call).get("properties") or {},
    }
    status = 200 if guid in _custom(world) else 201
    _custom(world)[guid] = body
    return json_response(body, status)


def _delete(world: World, call: Call) -> web.Response:
    found = _custom(world).pop(call.params["name"].lower(), None)
    return web.Response(status=204) if found is None else json_response(found)


def _list(world: World, call: Call) -> web.Response:
    match = _ROLE_NAME.search(call.query.get("$filter", ""))
    wanted = match.group(1).lower() if match else None
    scope = call.params["scope"]
    return json_response(
        {
            "value": [
                _body(scope, guid)
                for guid, name in _ROLES.items()
                if wanted is None or name.lower() == wanted
            ]
            + [
                role
                for role in _custom(world).values()
                if role["id"].lower().startswith("/".join(scope.split("/")[:3]).lower() + "/")
                and wanted in (None, role["properties"]["roleName"].lower())
            ]
        }
    )


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register role definitions at any scope; only custom ones can be changed."""

    def on(method: str, path: str, answer: Callable[[World, Call], web.Response]) -> None:
        async def handle(call: Call) -> web.Response:
            return answer(world, call)

        table.add_extension(method, path, handle)

    one = f"providers/{TYPE}/{{name}}"
    on("GET", one, _get)
    on("PUT", one, _put)
    on("DELETE", one, _delete)
    on("GET", f"providers/{TYPE}", _list)
