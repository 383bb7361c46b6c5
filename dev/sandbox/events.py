"""The events that Azure raises, as JSON in the Event Grid schema, and which function wants them.

Decides what an event says and where the project's event subscriptions route it; sending is
delivery.py's. Source: Microsoft's event schemas for subscriptions and for Key Vault, checked
24 Nov 2026.
"""

from typing import Any
from uuid import uuid4

from dev.sandbox import settings, tokens
from dev.sandbox.arm import arm
from dev.sandbox.delivery import Delivery
from dev.sandbox.http import Call
from dev.sandbox.store import World

_ACCOUNT_OPERATIONS = {
    "microsoft.cognitiveservices/accounts/write",
    "microsoft.cognitiveservices/accounts/delete",
    "microsoft.authorization/roleassignments/delete",
}
_RESOURCE_TYPES = {
    "microsoft.resources.resourcewritesuccess",
    "microsoft.resources.resourcedeletesuccess",
}
_VERBS = {"write": "Write", "delete": "Delete", "action": "Action"}
_SCHEMAS = "http://schemas.microsoft.com/identity/claims/"


def function_for(event: dict[str, Any]) -> str | None:
    """Return the function that the project's event subscriptions send this event to, or None."""
    kind = event["eventType"].lower()
    if kind.startswith("microsoft.keyvault."):
        return "vault_event"
    if kind in _RESOURCE_TYPES and event["data"]["operationName"].lower() in _ACCOUNT_OPERATIONS:
        return "account_event"
    return None


def publish(world: World, event: dict[str, Any]) -> None:
    """Hand the event to delivery, `event_copies` times, if a function wants it."""
    function = function_for(event)
    if function is None:
        return
    for _ in range(settings.of(world).event_copies):
        world.outbox.put_nowait(Delivery(function, event, world.generation))


def publish_resource(world: World, call: Call, operation: str, resource_id: str) -> None:
    """Publish a write, delete or action on a resource in a subscription.

    `operation` is ARM's name for it, such as Microsoft.KeyVault/vaults/write. The ids in the
    event keep the case in which the request wrote them.
    """
    parts = resource_id.split("/")
    if len(parts) < 3 or parts[1].lower() != "subscriptions":
        return  # resources outside a subscription have no subscription topic
    subscription = parts[2]
    claims = tokens.claims_of(call)
    verb = _VERBS[operation.rsplit("/", 1)[1]]
    publish(
        world,
        {
            "subject": resource_id,
            "eventType": f"Microsoft.Resources.Resource{verb}Success",
            "eventTime": arm.now(),
            "id": str(uuid4()),
            "data": {
                "authorization": {
                    "scope": resource_id,
                    "action": operation,
                    "evidence": {
                        "role": "Contributor",
                        "roleAssignmentScope": f"/subscriptions/{subscription}",
                        "roleAssignmentId": uuid4().hex,
                        "roleDefinitionId": "b24988ac618042a0ab8820f7382dd24c",
                        "principalId": str(claims.get("oid", "")).replace("-", ""),
                        "principalType": "ServicePrincipal",
                    },
                },
                "claims": _event_claims(claims),
                "correlationId": call.headers.get("x-ms-correlation-request-id", str(uuid4())),
                "httpRequest": {
                    "clientRequestId": call.headers.get("x-ms-client-request-id", ""),
                    "clientIpAddress": "127.0.0.1",
                    "method": call.method,
                    "url": f"{arm.ENDPOINT}{call.path}?{call.request.rel_url.raw_query_string}",
                },
                "resourceProvider": operation.split("/", 1)[0],
                "resourceUri": resource_id,
                "operationName": operation,
                "status": "Succeeded",
                "subscriptionId": subscription,
                "tenantId": claims.get("tid", tokens.DEFAULT_TENANT),
            },
            "dataVersion": "2",
            "metadataVersion": "1",
            "topic": f"/subscriptions/{subscription}",
        },
    )


def _event_claims(claims: dict[str, Any]) -> dict[str, str]:
    """Return the token's claims under the names that events use, as text; empty for no JWT."""
    renamed = {
        "oid": f"{_SCHEMAS}objectidentifier",
        "tid": f"{_SCHEMAS}tenantid",
        "idp": f"{_SCHEMAS}identityprovider",
        "sub": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
        "upn": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    }
    return {renamed.get(name, name): str(value) for name, value in claims.items()}


def publish_secret(world: World, kind: str, vault: dict[str, Any], secret: dict[str, Any]) -> None:
    """Publish SecretNewVersionCreated, SecretNearExpiry or SecretExpired.

    `vault` is the vault's ARM body. `secret` has id, name, version and, in unix seconds or
    None, nbf and exp. The value never enters an event.
    """
    quirks = settings.of(world).sample_event_quirks
    _publish_vault_event(
        world,
        kind,
        vault,
        secret["name"],
        {
            "Id": secret["id"],
            "VaultName": vault["name"],
            "ObjectType": "Secret",
            "ObjectName " if quirks else "ObjectName": secret["name"],
            "Version": f" {secret['version']}" if quirks else secret["version"],
            "NBF": _seconds(secret["nbf"]),
            "EXP": _seconds(secret["exp"]),
        },
    )


def publish_policy_change(world: World, vault: dict[str, Any]) -> None:
    """Publish VaultAccessPolicyChanged: vault-level fields only."""
    _publish_vault_event(
        world,
        "VaultAccessPolicyChanged",
        vault,
        vault["name"],
        {
            "Id": vault["properties"]["vaultUri"].rstrip("/"),
            "VaultName": vault["name"],
            "ObjectType": "Vault",
            "ObjectName": None,
            "Version": None,
            "NBF": None,
            "EXP": None,
        },
    )


def _publish_vault_event(
    world: World, kind: str, vault: dict[str, Any], subject: str, data: dict[str, Any]
) -> None:
    publish(
        world,
        {
            "id": str(uuid4()),
            "topic": vault["id"],
            "subject": subject,
            "eventType": f"Microsoft.KeyVault.{kind}",
            "eventTime": arm.now(),
            "data": data,
            "dataVersion": "1",
            "metadataVersion": "1",
        },
    )


def _seconds(value: int | None) -> str | None:
    """Write unix seconds as the published sample does: as text."""
    return None if value is None else str(value)
