"""Subscriptions, made up as they are asked for: one exists as soon as a path names it.

The generic tags API is played only as far as it matters: it fails for Cognitive Services accounts.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dev.sandbox import tokens
from dev.sandbox.arm import accounts
from dev.sandbox.arm.arm import ArmError, ArmRoutes
from dev.sandbox.http import Call, json_response
from dev.sandbox.store import World


@dataclass
class Seen:
    """Subscription ids by lower-case id, as first written."""

    subscriptions: dict[str, str] = field(default_factory=dict)


def note(world: World, subscription: str) -> None:
    """Remember a subscription that a path named."""
    world.part("subscriptions", Seen).subscriptions.setdefault(subscription.lower(), subscription)


def _subscription(identifier: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{identifier}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": identifier,
        "tenantId": tokens.DEFAULT_TENANT,
        "displayName": f"Sandbox {identifier[-4:]}",
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def add_routes(world: World, table: ArmRoutes) -> None:
    """Register subscriptions and the tags API of accounts."""

    async def list_subscriptions(_call: Call) -> web.Response:
        note(world, world.default_subscription)
        seen = world.part("subscriptions", Seen).subscriptions
        return json_response({"value": [_subscription(name) for name in seen.values()]})

    async def get_subscription(call: Call) -> web.Response:
        return json_response(_subscription(call.params["subscription"]))

    async def write_tags(call: Call) -> web.Response:
        scope = call.params["scope"]
        if accounts.find(world, scope) is not None:
            raise ArmError(
                400,
                "ProviderError",
                "Resource provider 'Microsoft.CognitiveServices' did not respond with a valid "
                "resource definition when polling operation results for subscription "
                f"'{scope.split('/')[2]}'.",
            )
        raise ArmError(501, "NotPlayed", "The sandbox plays the tags API for accounts only.")

    table.add("GET", "/subscriptions", list_subscriptions)
    table.add("GET", "/subscriptions/{subscription}", get_subscription)
    tags = "providers/Microsoft.Resources/tags/{name}"
    table.add_extension("PUT", tags, write_tags)
    table.add_extension("PATCH", tags, write_tags)
