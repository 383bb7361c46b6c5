"""Events in both schemas, as Event Grid would deliver them and as anybody could."""

import json
from typing import Any

import azure.functions as func
from azure.functions import eventgrid, meta
from hypothesis import given
from hypothesis import strategies as st

from finetune_wandb.model.errors import NoticeError
from handlers.events import Notice, read_notice
from tests.fuzz.inputs import damaged, fuzzed, raises_only

SECRET = {
    "id": "1",
    "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv",
    "subject": "wandb-api-key",
    "eventType": "Microsoft.KeyVault.SecretNewVersionCreated",
    "eventTime": "2026-11-24T12:00:00.1234567Z",
    "data": {
        "Id": "https://kv.vault.azure.net/secrets/wandb-api-key/1",
        "VaultName": "kv",
        "ObjectType": "Secret",
        "ObjectName ": "wandb-api-key",
        "Version": " 1",
        "NBF": "1559081980",
        "EXP": None,
    },
    "dataVersion": "1",
    "metadataVersion": "1",
}
ACCOUNT = {
    **SECRET,
    "eventType": "Microsoft.Resources.ResourceWriteSuccess",
    "data": {
        "authorization": {"evidence": {"principalId": "p"}},
        "claims": {"http://schemas.microsoft.com/identity/claims/objectidentifier": "o"},
        "resourceUri": "/subscriptions/s",
        "operationName": "Microsoft.CognitiveServices/accounts/write",
        "httpRequest": {},
    },
}
CLOUD = {
    "id": "1",
    "source": SECRET["topic"],
    "subject": "wandb-api-key",
    "type": SECRET["eventType"],
    "time": "2026-11-24T12:00:00Z",
    "specversion": "1.0",
    "data": SECRET["data"],
}


def event_of(body: Any) -> func.EventGridEvent | func.CloudEvent | None:
    """Return what the worker gives a function for a body, None where it refuses it itself."""
    if not isinstance(body, dict):
        return None
    try:
        datum = meta.Datum(json.dumps(body), "json")
        return eventgrid.EventGridEventInConverter.decode(datum, trigger_metadata=None)
    except Exception:  # whatever Microsoft's decoder raises for it
        return None  # such a body never reaches our code


def check(body: Any) -> None:
    event = event_of(body)
    if event is None:
        return
    notice = raises_only(NoticeError, lambda: read_notice(event))
    if notice is None:
        return
    assert isinstance(notice, Notice)
    texts = (notice.type, notice.topic, notice.subject)
    assert all(isinstance(text, str) for text in texts)
    for name in ("id", "objectname", "vaultname", "resourceuri", "operationname"):
        assert notice.text(name) == notice.text(name).strip()
    for name in ("claims", "authorization", "resourceinfo"):
        notice.object(name)


@fuzzed
@given(damaged(SECRET, ACCOUNT))
def test_notice_or_documented_error_when_an_event_is_damaged(body: Any) -> None:
    check(body)


@fuzzed
@given(damaged(CLOUD))
def test_notice_or_documented_error_when_a_cloud_event_is_damaged(body: Any) -> None:
    check(body)


@fuzzed
@given(st.sampled_from((SECRET, ACCOUNT, CLOUD)))
def test_notice_is_read_when_an_event_is_whole(body: dict[str, Any]) -> None:
    event = event_of(body)
    assert event is not None
    assert read_notice(event).type in (SECRET["eventType"], ACCOUNT["eventType"])
