"""The app's queues: messages as the host's triggers read them, how many there are, and what the
host set aside.

Source: "Put Message", "Get Messages", "Delete Message" and "Get Queue Metadata" of the Queue
service REST reference, version 2019-02-02; held by contract tests against Azurite.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from finetune_wandb.clients.http import Answer
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.errors import ConflictError, MissingError, UnavailableError
from finetune_wandb.model.messages import Message
from finetune_wandb.model.work import QUEUES, QueueCount, SetAside

_AT_ONCE: Final = 16
_BATCH: Final = 32
_HIDE_S: Final = 300
_HEADERS: Final = {"Content-Type": "application/xml"}


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A received message; `text` is as it was stored."""

    id: str
    receipt: str
    text: str


class Queue:
    """One queue; made with the first message that is put on it. Every method raises our errors."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._service = storage.queues
        self._name = name

    async def put(self, text: str, *, delay_s: int = 0) -> None:
        """Put a message on the queue, visible after `delay_s` seconds (at most seven days)."""
        # A message is work: it ends by being done or in the poison queue, not by age.
        path = f"messages?messagettl=-1&visibilitytimeout={delay_s}"
        body = f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>"
        try:
            await self._send("POST", path, body.encode())
        except MissingError:
            try:
                await self._send("PUT", "")
            except ConflictError as error:
                if error.code != "QueueAlreadyExists":
                    raise
            await self._send("POST", path, body.encode())

    async def receive(self, most: int, *, hide_s: int) -> list[QueueMessage]:
        """Return up to `most` (at most 32) messages, which stay hidden for `hide_s` seconds."""
        path = f"messages?numofmessages={most}&visibilitytimeout={hide_s}"
        return _messages(await self._send("GET", path))

    async def remove(self, message: QueueMessage) -> None:
        """Remove a received message."""
        receipt = quote(message.receipt, safe="")
        await self._send("DELETE", f"messages/{message.id}?popreceipt={receipt}")

    async def count(self) -> int:
        """Return about how many messages there are, hidden ones too; 0 without a queue."""
        try:
            answer = await self._send("GET", "?comp=metadata")
        except MissingError:
            return 0
        count = answer.headers.get("x-ms-approximate-messages-count", "")
        if not count.isdecimal():
            raise UnavailableError("Queue storage answered no count", code="NoCount")
        return int(count)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> Answer:
        return await self._service.request(
            method,
            f"{self._name}{'/' if path[:1].isalpha() else ''}{path}",
            lambda answer: answer,
            headers=_HEADERS,
            body=body,
            subject=self._name,
        )


class Queues:
    """Sends each message to its own queue, counts what waits, reads poison queues."""

    def __init__(self, storage: Storage, names: Collection[str] = QUEUES) -> None:
        self._queues = {name: Queue(storage, name) for name in names}
        self._poison = {name: Queue(storage, f"{name}-poison") for name in names}

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        """Send each message; visible after `delay_s` seconds (at most seven days)."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(message: Message) -> None:
            async with limit:
                await self.put(message.queue, message.to_json(), delay_s=delay_s)

        await asyncio.gather(*(one(message) for message in messages))

    async def counts(self) -> list[QueueCount]:
        """Return the counts of every queue."""
        waiting, poison = await asyncio.gather(
            asyncio.gather(*(queue.count() for queue in self._queues.values())),
            asyncio.gather(*(queue.count() for queue in self._poison.values())),
        )
        return [QueueCount(*one) for one in zip(self._queues, waiting, poison, strict=True)]

    async def put(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Put a message on a queue, as it was sent; the host reads base64."""
        text = base64.b64encode(body).decode()
        await self._queues[queue].put(text, delay_s=int(delay_s))

    async def poisoned(self) -> AsyncIterator[SetAside]:
        """Yield what is in the poison queues. A message that is not removed is seen again later."""
        for name, queue in self._poison.items():
            while batch := await queue.receive(_BATCH, hide_s=_HIDE_S):
                for message in batch:
                    remove = partial(queue.remove, message)
                    yield SetAside(name, _decoded(message.text), remove)


def _decoded(text: str) -> bytes:
    """Return the message's body; text that no sender of ours wrote stays as it is."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _messages(answer: Answer) -> list[QueueMessage]:
    try:
        return [
            QueueMessage(
                item.findtext("MessageId") or "",
                item.findtext("PopReceipt") or "",
                item.findtext("MessageText") or "",
            )
            for item in ElementTree.fromstring(answer.body.decode("utf-8-sig"))
        ]
    except (ElementTree.ParseError, UnicodeDecodeError):
        raise UnavailableError("Queue storage answered no messages", code="NotXml") from None
