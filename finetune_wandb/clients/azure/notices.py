"""Publishes the app's notices to an Event Grid topic, as CloudEvents."""

from finetune_wandb.clients.translate import translated
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.ports import OutgoingNotice


class Notices:
    """NoticePort over one topic. Without an endpoint nothing is published."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        self._transport = transport
        self._endpoint = endpoint

    async def publish(self, notice: OutgoingNotice) -> None:
        """Send one event. A repeated event has the same id, so that subscribers can drop it."""
        if not self._endpoint:
            return
        from azure.core.messaging import CloudEvent
        from azure.eventgrid.aio import EventGridPublisherClient

        event = CloudEvent(
            source="/wandb-finetune-relay",
            type=notice.type,
            subject=notice.subject,
            id=notice.id,
            time=notice.time,
            data=dict(notice.data),
        )
        publisher = self._transport.sdk_client(EventGridPublisherClient, endpoint=self._endpoint)
        with translated(self._endpoint, "Event Grid"):
            await publisher.send(event)
