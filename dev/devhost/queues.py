"""Feeds queue functions: polls, invokes, deletes, retries, sets poison messages aside.

Follows the cloud's queue extension: a new batch is fetched while no more than
`newBatchThreshold` messages are in work; a message that failed `maxDequeueCount` times moves
to `<queue>-poison`, one that cannot be decoded at once. A queue that is missing is not made. Idle
polling is quicker than in the cloud: it slows down to one second, and an own output wakes it.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from azure.core.exceptions import AzureError

from dev.devhost.config import QueueOptions
from dev.devhost.functions import Function
from dev.devhost.invoker import Invoker
from dev.devhost.queue_store import Message, Queue, QueueStore, decode
from dev.devhost.worker import Datum

log = logging.getLogger("devhost.queue")

_POISON = "-poison"
_SHORTEST_POLL_S = 0.1
_LONGEST_POLL_S = 1.0


class QueueListener:
    """One queue function and the loop that feeds it."""

    def __init__(
        self,
        function: Function,
        store: QueueStore,
        options: QueueOptions,
        invoker: Invoker,
        lease: float,
    ) -> None:
        """Feed `function` from its queue; a message in work is leased for `lease` seconds."""
        self.function = function
        self.name = str(function.trigger["queueName"])
        self._queue: Queue = store.queue(self.name)
        # A failing message of a poison queue has nowhere further to go: it stays where it is.
        self._poison = None if self.name.endswith(_POISON) else store.queue(f"{self.name}{_POISON}")
        self._options = options
        self._invoker = invoker
        self._lease = lease
        self._longest_poll = min(_LONGEST_POLL_S, options.max_polling_interval)
        self._shortest_poll = min(_SHORTEST_POLL_S, self._longest_poll)
        self._in_work: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._is_away = False

    def nudge(self) -> None:
        """Poll soon: something may have been put on the queue."""
        self._wake.set()

    async def loop(self) -> None:
        """Poll until cancelled. Messages in work stay in work; await `finish` for them."""
        clock = asyncio.get_running_loop().time
        pause = self._shortest_poll
        while True:
            self._wake.clear()
            if len(self._in_work) > self._options.new_batch_threshold:
                await self._wake.wait()
                continue
            polled = clock()
            if await self._fetch():
                pause = self._shortest_poll
            elif await _set_within(self._wake, pause):
                pause = self._shortest_poll
                # Each finished invocation wakes every listener: a busy host must not poll its
                # empty queues without rest.
                await asyncio.sleep(max(0.0, polled + pause - clock()))
            else:
                pause = min(pause * 2, self._longest_poll)

    async def finish(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until messages in work are deleted or released."""
        if self._in_work:
            await asyncio.wait(self._in_work, timeout=timeout)

    async def _fetch(self) -> int:
        try:
            messages = await self._queue.receive(self._options.batch_size, self._lease)
        except AzureError as error:
            if not self._is_away:
                log.warning("%s: waiting for storage: %s", self.name, _brief(error))
            self._is_away = True
            return 0
        if self._is_away:
            log.info("%s: storage is back", self.name)
            self._is_away = False
        for message in messages:
            task = asyncio.create_task(self._handle(message))
            self._in_work.add(task)
            task.add_done_callback(self._done)
        return len(messages)

    async def _handle(self, message: Message) -> None:
        if message.dequeue_count > self._options.max_dequeue_count and self._poison:
            # Its reader died each time before it could say so.
            await self._give_up(message, self._poison)
            return
        try:
            datum = self._decoded(message)
        except ValueError as error:
            log.error("Message decoding has failed! Check MessageEncoding settings. %s", error)
            if self._poison:
                await self._attempt(self._set_aside(message, self._poison))
            return
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(message, done))
        try:
            ok = (await self._invoker.invoke(self.function, datum, _metadata(message))).ok
        finally:
            # Waited for, not cancelled: it may be replacing the pop receipt at this moment.
            done.set()
            await renewal
        if ok:
            await self._attempt(self._delete(message))
        elif message.dequeue_count >= self._options.max_dequeue_count and self._poison:
            await self._give_up(message, self._poison)
        else:
            await self._attempt(self._queue.hide(message, self._options.visibility_timeout))

    def _decoded(self, message: Message) -> Datum:
        content = decode(message.raw, base64_encoded=self._options.base64)
        return Datum(content, "string" if isinstance(content, str) else "bytes")

    async def _renew(self, message: Message, done: asyncio.Event) -> None:
        while not await _set_within(done, self._lease / 2):
            if await self._attempt(self._queue.hide(message, self._lease)) is False:
                log.warning("%s: lease of message %s was lost", self.name, message.id)
                return

    async def _give_up(self, message: Message, poison: Queue) -> None:
        # The alert rules look for these words of the real host.
        log.warning(
            "Message has reached MaxDequeueCount of %d. Moving message to queue '%s%s'.",
            self._options.max_dequeue_count,
            self.name,
            _POISON,
        )
        await self._attempt(self._set_aside(message, poison))

    async def _set_aside(self, message: Message, poison: Queue) -> None:
        await poison.send(message.raw)
        await self._delete(message)

    async def _delete(self, message: Message) -> None:
        if not await self._queue.delete(message):
            log.warning("%s: message %s went to another reader", self.name, message.id)

    async def _attempt[T](self, step: Coroutine[Any, Any, T]) -> T | None:
        """Do one storage call; when it fails, the lease runs out and the message comes back."""
        try:
            return await step
        except AzureError as error:
            log.warning("%s: storage did not answer: %s", self.name, _brief(error))
            return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_work.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: host bug while handling a message", self.name, exc_info=error)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _metadata(message: Message) -> dict[str, Datum]:
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    return {
        "Id": Datum(message.id, "string"),
        "DequeueCount": Datum(message.dequeue_count, "int"),
        "PopReceipt": Datum(message.pop_receipt, "string"),
        **{name: Datum(time.isoformat(), "string") for name, time in times.items() if time},
    }


def _brief(error: Exception) -> str:
    """Return the first line of an SDK error: the rest repeats headers and request ids."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
