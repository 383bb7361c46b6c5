"""Notices over real HTTP, as the topic received them."""

import pytest

from finetune_wandb.clients.azure.notices import Notices
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.errors import UnavailableError
from tests.clients.azure_stage import fault, requests
from tests.dev.sandbox.stage import Client
from tests.fakes import NOW, account_id

pytestmark = pytest.mark.sandbox_only
TOPIC = "https://alerts.westeurope-1.eventgrid.azure.net/api/events"
NOTICE = OutgoingNotice(
    id="an-id",
    type="WandbRelay.AccountHealthy",
    subject=str(account_id()),
    time=NOW,
    data={"healthy": True},
)


async def test_cloud_event_arrives_as_published(sandbox: Client, transport: Transport) -> None:
    notices = Notices(transport, TOPIC)
    await notices.publish(NOTICE)
    (received,) = await sandbox.control("GET", "notices")
    assert received["schema"] == "CloudEventSchemaV1_0"
    event = received["event"]
    assert (event["id"], event["type"], event["subject"]) == (
        "an-id",
        "WandbRelay.AccountHealthy",
        str(account_id()),
    )
    assert event["data"] == {"healthy": True}


async def test_nothing_is_sent_when_there_is_no_topic(
    sandbox: Client, transport: Transport
) -> None:
    notices = Notices(transport, "")
    await notices.publish(NOTICE)
    assert await requests(sandbox, "eventgrid") == []


async def test_unavailable_is_raised_when_the_topic_is_down(
    sandbox: Client, transport: Transport
) -> None:
    notices = Notices(transport, TOPIC)
    await fault(sandbox, "eventgrid", {"status": 503}, times=9)
    with pytest.raises(UnavailableError):
        await notices.publish(NOTICE)
