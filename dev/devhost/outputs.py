"""Writes queue output bindings after a successful invocation.

A string or bytes is one message; a list is one message per element.
"""

import json
from collections.abc import Callable
from typing import Any

from dev.devhost.functions import Function
from dev.devhost.queue_store import QueueStore, encode
from dev.devhost.worker import Datum


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
