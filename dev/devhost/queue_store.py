"""Storage queues, over the official SDK: receive, extend, release, delete, send, output bindings.

Messages are handled as the raw text in storage; `encode` and `decode` turn that into content
by host.json's `messageEncoding`. Policy (leases, poison, back-off) lives in `queues`.
"""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from dev.devhost.functions import Function
from dev.devhost.worker import Datum


@dataclass(slots=True)
class Message:
    """A message held under a lease; its pop receipt changes each time the lease is extended."""

    id: str
    pop_receipt: str
    raw: str
    dequeue_count: int
    inserted_on: datetime | None
    expires_on: datetime | None
    next_visible_on: datetime | None


class QueueStore:
    """The queues behind one connection string; all share one connection pool."""

    def __init__(self, connection: str) -> None:
        """Raises ValueError when the connection string is malformed."""
        # The SDK's default waits 15 s before a second try; a laptop's storage is near.
        self._service = QueueServiceClient.from_connection_string(
            connection,
            retry_total=2,
            initial_backoff=1,
            increment_base=1,
            random_jitter_range=0,
        )

    def queue(self, name: str) -> "Queue":
        """Return the queue of that name, which need not exist yet."""
        return Queue(self._service.get_queue_client(name))

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()


class Queue:
    """One queue. Every call raises azure.core's AzureError when storage cannot be reached."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client

    async def _create(self) -> None:
        try:
            await self._client.create_queue()
        except ResourceExistsError:
            return

    async def receive(self, count: int, lease: float) -> list[Message]:
        """Return up to `count` visible messages, each hidden from others for `lease` seconds.

        A queue that does not exist has none.
        """
        pages = self._client.receive_messages(
            messages_per_page=count, visibility_timeout=max(1, round(lease))
        ).by_page()
        try:
            page = await anext(pages, None)
        except ResourceNotFoundError:
            return []
        if page is None:
            return []
        return [
            Message(
                id=item.id,
                pop_receipt=str(item.pop_receipt),
                raw=item.content,
                dequeue_count=item.dequeue_count or 1,
                inserted_on=item.inserted_on,
                expires_on=item.expires_on,
                next_visible_on=item.next_visible_on,
            )
            async for item in page
        ]

    async def hide(self, message: Message, seconds: float) -> bool:
        """Hide a held message for `seconds` more; 0 shows it at once. False: no longer held."""
        try:
            updated = await self._client.update_message(
                message.id, pop_receipt=message.pop_receipt, visibility_timeout=round(seconds)
            )
        except ResourceNotFoundError:
            return False
        message.pop_receipt = str(updated.pop_receipt)
        return True

    async def delete(self, message: Message) -> bool:
        """Delete a held message. False: no longer held, another reader may have it."""
        try:
            await self._client.delete_message(message.id, message.pop_receipt)
        except ResourceNotFoundError:
            return False
        return True

    async def send(self, raw: str) -> None:
        """Add a message, creating the queue if missing; it lasts seven days, as all do."""
        try:
            await self._client.send_message(raw)
        except ResourceNotFoundError:
            await self._create()
            await self._client.send_message(raw)


def decode(raw: str, *, base64_encoded: bool) -> str | bytes:
    """Return a message's content, as text where it is UTF-8. Raises ValueError if undecodable."""
    if not base64_encoded:
        return raw
    try:
        content = base64.b64decode("".join(raw.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("the message is not base64, see messageEncoding in host.json") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


def encode(content: str | bytes, *, base64_encoded: bool) -> str:
    """Return the text to store for a content. Raises ValueError for raw bytes sent as text."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    return base64.b64encode(data).decode("ascii") if base64_encoded else data.decode("utf-8")


class QueueOutputs:
    """Sends what functions left in their queue outputs."""

    def __init__(self, store_of: Callable[[Any], QueueStore], base64_encoded: bool) -> None:
        """`store_of` finds the storage a binding names."""
        self._store_of = store_of
        self._base64 = base64_encoded

    async def write(
        self, function: Function, returned: Datum | None, outputs: list[tuple[str, Datum]]
    ) -> None:
        """Send the messages. Raises ValueError or azure.core's AzureError."""
        given = dict(outputs)
        for binding in function.outputs:
            name = str(binding["name"])
            datum = returned if name == "$return" else given.get(name)
            if datum is None:
                continue
            queue = self._store_of(binding).queue(str(binding["queueName"]))
            for content in _messages(datum):
                await queue.send(encode(content, base64_encoded=self._base64))


def _messages(datum: Datum) -> list[str | bytes]:
    if datum.type != "json":
        return [datum.value]
    value = json.loads(datum.value)
    return [_content(item) for item in (value if isinstance(value, list) else [value])]


def _content(item: object) -> str:
    # The SDK turns its QueueMessage into an object of id and body.
    return str(item["body"]) if isinstance(item, dict) else str(item)
