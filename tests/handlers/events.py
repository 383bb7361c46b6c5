"""Events as the platform's worker hands them over, in both schemas."""

from typing import Any

import azure.functions as func
from azure.functions.meta import Datum

from tests.handlers.stage import ACCOUNT, SUBSCRIPTION, VAULT

SCHEMAS = ("eventgrid", "cloudevents")
VAULT_TOPIC = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-main"
)


def event(
    kind: Any, data: Any, *, schema: str = "eventgrid", topic: Any = "", subject: Any = ""
) -> Any:
    """Return an event as the worker decodes it from the payload."""
    import json

    from azure.functions.eventgrid import EventGridEventInConverter

    if schema == "cloudevents":
        payload = {
            "id": "e1",
            "source": topic,
            "subject": subject,
            "type": kind,
            "time": "2026-11-24T12:00:00.1234567Z",
            "specversion": "1.0",
            "data": data,
        }
    else:
        payload = {
            "id": "e1",
            "topic": topic,
            "subject": subject,
            "eventType": kind,
            "eventTime": "2026-11-24T12:00:00.1234567Z",
            "data": data,
            "dataVersion": "1",
            "metadataVersion": "1",
        }
    found = EventGridEventInConverter.decode(
        Datum(json.dumps(payload), "json"), trigger_metadata=None
    )
    wanted = func.CloudEvent if schema == "cloudevents" else func.EventGridEvent
    assert isinstance(found, wanted)
    return found


def account_written(schema: str = "eventgrid", **data: Any) -> Any:
    """Return Resource Manager's event for a write of the account."""
    given = {
        "resourceUri": ACCOUNT,
        "operationName": "Microsoft.CognitiveServices/accounts/write",
        "status": "Succeeded",
        "claims": {"name": "PERSONAL NAME", "ipaddr": "10.1.2.3"},
        "authorization": {"evidence": {"principalId": "someone"}},
        **data,
    }
    return event(
        "Microsoft.Resources.ResourceWriteSuccess",
        given,
        schema=schema,
        topic=f"/subscriptions/{SUBSCRIPTION}",
        subject=ACCOUNT,
    )


def secret_made(schema: str = "eventgrid", **data: Any) -> Any:
    """Return Key Vault's event for a new version of the secret."""
    given = {
        "Id": f"https://{VAULT}/secrets/wandb-api-key/0123",
        "VaultName": "kv-main",
        "ObjectType": "Secret",
        "ObjectName": "wandb-api-key",
        "Version": "0123",
        "NBF": None,
        "EXP": None,
        **data,
    }
    return event(
        "Microsoft.KeyVault.SecretNewVersionCreated",
        given,
        schema=schema,
        topic=VAULT_TOPIC,
        subject="wandb-api-key",
    )
