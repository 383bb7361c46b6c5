"""azure-eventgrid publishes to a custom topic; the control path reads it back."""

from datetime import UTC, datetime

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent
from azure.eventgrid.aio import EventGridPublisherClient

from tests.dev.sandbox.sdk_transport import AnyCredential
from tests.dev.sandbox.stage import Client

ENDPOINT = "https://notices.swedencentral-1.eventgrid.azure.net/api/events"


async def test_cloud_events_are_kept_in_order_when_published_together(sandbox: Client) -> None:
    events = [
        CloudEvent(source="/app", type="Relay.Account.Healthy", data={"n": n}, subject="acc")
        for n in range(2)
    ]
    async with EventGridPublisherClient(
        ENDPOINT, AnyCredential(), transport=sandbox.transport()
    ) as client:
        await client.send(events)
    kept = await sandbox.control("GET", "notices")
    assert [item["event"]["data"]["n"] for item in kept] == [0, 1]
    assert kept[0]["topic"] == "notices.swedencentral-1"
    assert kept[0]["schema"] == "CloudEventSchemaV1_0"
    assert kept[0]["event"]["id"] == events[0].id
    assert await sandbox.control("DELETE", "notices") == {"cleared": 2}
    assert await sandbox.control("GET", "notices") == []


async def test_event_grid_schema_is_taken_when_sent_with_a_key(sandbox: Client) -> None:
    event = EventGridEvent(
        subject="acc",
        event_type="Relay.Account.Healthy",
        data={},
        data_version="1",
        event_time=datetime.now(UTC),
    )
    credential = AzureKeyCredential("k")
    async with EventGridPublisherClient(
        ENDPOINT, credential, transport=sandbox.transport()
    ) as client:
        await client.send(event)
    (kept,) = await sandbox.control("GET", "notices")
    assert kept["schema"] == "EventGridSchema"


async def test_publisher_is_refused_when_an_event_lacks_its_type(sandbox: Client) -> None:
    async with EventGridPublisherClient(
        ENDPOINT, AnyCredential(), transport=sandbox.transport()
    ) as client:
        with pytest.raises(HttpResponseError) as refused:
            await client.send({"id": "1", "source": "/app", "specversion": "1.0"})
    assert refused.value.status_code == 400
    assert await sandbox.control("GET", "notices") == []
