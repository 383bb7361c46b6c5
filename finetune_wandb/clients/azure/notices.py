"""Publishes the app's own events to an Event Grid topic, as CloudEvents, for people's alerts."""

from typing import TYPE_CHECKING

from finetune_wandb.clients.translate import translated
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.notice import OutgoingNotice

if TYPE_CHECKING:
    from azure.eventgrid.aio import EventGridPublisherClient

SOURCE = "/wandb-finetune-relay"


class Notices:
    """One topic. Without an endpoint nothing is published."""

    def __init__(self, transport: Transport, endpoint: str) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._client: EventGridPublisherClient | None = None

    async def publish(self, notice: OutgoingNotice) -> None:
        """Send one event. The same id twice is the same event, which subscribers can tell."""
        if not self._endpoint:
            return
        from azure.core.messaging import CloudEvent

        event = CloudEvent(
            source=SOURCE,
            type=notice.type,
            subject=notice.subject,
            id=notice.id,
            time=notice.time,
            data=dict(notice.data),
        )
        with translated(self._endpoint, "Event Grid"):
            await self._publisher().send(event)

    def _publisher(self) -> "EventGridPublisherClient":
        if self._client is None:
            from azure.eventgrid.aio import EventGridPublisherClient

            from finetune_wandb.clients.azure.sdk import sdk_options

            self._client = EventGridPublisherClient(
                self._endpoint,
                self._transport.credential(),
                **sdk_options(self._transport),
            )
        return self._client
