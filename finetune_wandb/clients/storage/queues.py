"""The app's queues: messages as the host's triggers read them, how many there are, and what the
host set aside.

Source: "Put Message", "Get Messages", "Delete Message" and "Get Queue Metadata" of the Queue
service REST reference, version 2019-02-02; held by contract tests against Azurite.
"""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from functools import partial
from typing import Final
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from finetune_wandb.clients.http import Answer
from finetune_wandb.clients.storage.service import Storage, StorageService, made_first
from finetune_wandb.model.errors import MissingError, UnavailableError
from finetune_wandb.model.messages import Message
from finetune_wandb.model.work import QUEUES, QueueCount, SetAside

_POISON: Final = "-poison"


class Queue:
    """One queue; made with the first message that is put on it. Every method raises our errors."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._service = StorageService(storage, "queue", name, {"Content-Type": "application/xml"})
        self._name = name

    async def put(self, text: str, *, delay_s: int = 0) -> None:
        """Put a message on the queue, visible after `delay_s` seconds (at most seven days)."""
        # A message is work: it ends by being done or in the poison queue, not by age.
        path = f"{self._name}/messages?messagettl=-1&visibilitytimeout={delay_s}"
        body = f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>"
        await made_first(
            lambda: self._service.request("PUT", self._name, _nothing),
            lambda: self._service.request("POST", path, _nothing, body=body.encode()),
        )

    async def receive(self, most: int, *, hide_s: int) -> list[SetAside]:
        """Return up to `most` (at most 32) messages, which stay hidden for `hide_s` seconds."""
        path = f"{self._name}/messages?numofmessages={most}&visibilitytimeout={hide_s}"
        return [
            SetAside(
                queue=self._name.removesuffix(_POISON),
                body=_decoded(item.findtext("MessageText") or ""),
                remove=partial(self._remove, item),
            )
            for item in await self._service.request("GET", path, _messages)
        ]

    async def _remove(self, item: ElementTree.Element) -> None:
        receipt = quote(item.findtext("PopReceipt") or "", safe="")
        path = f"{self._name}/messages/{item.findtext('MessageId')}?popreceipt={receipt}"
        await self._service.request("DELETE", path, _nothing)

    async def count(self) -> int:
        """Return about how many messages there are, hidden ones too; 0 without a queue."""
        with contextlib.suppress(MissingError):
            return await self._service.request("GET", f"{self._name}?comp=metadata", _count)
        return 0


class Queues:
    """Sends each message to its own queue, counts what waits, reads poison queues."""

    def __init__(self, storage: Storage, names: Collection[str] = QUEUES) -> None:
        self._queues = {name: Queue(storage, name) for name in names}
        self._poison = {name: Queue(storage, f"{name}{_POISON}") for name in names}

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        limit = asyncio.Semaphore(16)

        async def one(message: Message) -> None:
            async with limit:
                await self.put(message.queue, message.to_json(), delay_s=delay_s)

        await asyncio.gather(*(one(message) for message in messages))

    async def counts(self) -> list[QueueCount]:
        queues = (*self._queues.values(), *self._poison.values())
        counts = await asyncio.gather(*(queue.count() for queue in queues))
        poison = counts[len(self._queues) :]
        return [QueueCount(*one) for one in zip(self._queues, counts, poison, strict=False)]

    async def put(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Put a message on a queue, as it was sent; the host reads base64."""
        text = base64.b64encode(body).decode()
        await self._queues[queue].put(text, delay_s=int(delay_s))

    async def poisoned(self) -> AsyncIterator[SetAside]:
        for queue in self._poison.values():
            while batch := await queue.receive(32, hide_s=300):
                for message in batch:
                    yield message


def _decoded(text: str) -> bytes:
    """Return the message's body; text that no sender of ours wrote stays as it is."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _nothing(answer: Answer) -> None:
    """Of an answer that says no more than that it was done."""


def _count(answer: Answer) -> int:
    count = answer.headers.get("x-ms-approximate-messages-count", "")
    if not count.isdecimal():
        raise UnavailableError("Queue storage answered no count", code="NoCount")
    return int(count)


def _messages(answer: Answer) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(answer.body.decode("utf-8-sig"))
    except (ElementTree.ParseError, UnicodeDecodeError):
        raise UnavailableError("Queue storage answered no messages", code="NotXml") from None
