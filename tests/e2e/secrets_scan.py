"""Looks for W&B keys in everything that the product wrote, sent or answered.

A key is found in clear, percent-encoded, in base64 at any alignment (so also behind `api:` in a
Basic header), in hexadecimal, and inside what is compressed. By its shape, whichever key it is;
and by value, for keys that a test made of other shapes.
"""

import asyncio
import base64
import contextlib
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from azure.core.exceptions import AzureError
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from dev.tools.local_stack import Stack

_PREFIX = b"wandb_v1_"
_IN_CLEAR = re.compile(_PREFIX + rb"[A-Za-z0-9_.\-]{16,}")
_MOST = 32
"""Messages that a queue shows at once."""


def encodings(value: bytes) -> list[bytes]:
    """Return what a value looks like in base64, hexadecimal and percent-encoded.

    Of base64 only the characters that do not depend on what stands before and behind it.
    """
    forms = [value.hex().encode(), value.hex().upper().encode()]
    forms.append("".join(f"%{byte:02X}" for byte in value).encode())
    forms.append(quote(value.decode(), safe="").encode())
    for place in range(3):
        encoded = base64.b64encode(b"\0" * place + value)
        whole = (place + len(value)) // 3 * 4
        text = encoded[(0, 2, 3)[place] : whole]
        forms += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return list(dict.fromkeys(form for form in forms if form != value))


_SHAPES = encodings(_PREFIX)


def leaks(data: bytes, values: Iterable[str] = ()) -> list[str]:
    """Return how keys are found in some bytes; never the key itself."""
    found = ["a key in clear"] if _IN_CLEAR.search(data) else []
    lowered = data.lower()
    for shape in _SHAPES:
        if shape != _PREFIX and (shape in data or (shape.lower() in lowered and b"%" in shape)):
            found.append("an encoded key")
    for value in values:
        forms = (value.encode(), *encodings(value.encode()))
        if any(form in data for form in forms):
            found.append("a value that a test stored")
    return list(dict.fromkeys(found))


class Witness:
    """Looks at what passes by; at the end, everything that was left behind comes to it."""

    def __init__(self, stack: Stack) -> None:
        self.values: set[str] = set()
        """Values of no key's shape that a test stores, to be looked for from then on."""
        self.looked_at: Counter[str] = Counter()
        """How many bytes came from where: a witness that saw nothing proves nothing."""
        self.found: set[str] = set()
        """Where keys were found and in which form; never the key."""
        self._seen: set[int] = set()
        self._stack = stack

    def take(self, where: str, data: bytes) -> None:
        self.looked_at[where] += len(data)
        mark = hash(data)
        if mark in self._seen:
            return
        self._seen.add(mark)
        pieces = [data]
        with contextlib.suppress(zlib.error):
            pieces.append(zlib.decompress(data))
        for piece in pieces:
            self.found |= {f"{where}: {how}" for how in leaks(piece, self.values)}

    def trace(self) -> aiohttp.TraceConfig:
        """Return what makes a session's answers from the Functions host known here."""
        config = aiohttp.TraceConfig()

        async def received(
            _: Any, __: Any, params: aiohttp.TraceResponseChunkReceivedParams
        ) -> None:
            if str(params.url).startswith(self._stack.host_url):
                self.take(f"answer {params.method} {params.url.path}", params.chunk)

        async def ended(_: Any, __: Any, params: aiohttp.TraceRequestEndParams) -> None:
            if str(params.url).startswith(self._stack.host_url):
                self.take("answer headers", str(params.response.headers).encode())

        config.on_response_chunk_received.append(received)
        config.on_request_end.append(ended)
        return config

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look into the queues again and again: most messages are gone soon."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(AzureError):
                await self.take_queues()
            await asyncio.sleep(0.02)

    async def take_queues(self) -> None:
        async with QueueServiceClient.from_connection_string(
            self._stack.storage_connection, retry_total=0
        ) as service:
            async for queue in service.list_queues():
                async with service.get_queue_client(queue.name) as client:
                    for message in await client.peek_messages(_MOST):
                        text = str(message.content).encode()
                        self.take(f"queue {queue.name}", text)
                        with contextlib.suppress(ValueError):
                            self.take(f"queue {queue.name}", base64.b64decode(text, validate=True))

    async def take_tables(self) -> None:
        async with TableServiceClient.from_connection_string(
            self._stack.storage_connection
        ) as service:
            async for table in service.list_tables():
                async with service.get_table_client(table.name) as client:
                    async for row in client.list_entities():
                        self._take_row(f"table {table.name}", row)

    def _take_row(self, where: str, row: Mapping[str, Any]) -> None:
        parts: dict[str, list[bytes]] = defaultdict(list)
        for name, value in row.items():
            data = value if isinstance(value, bytes) else f"{name}={value}".encode()
            self.take(where, data)
            if isinstance(value, bytes):
                parts[name.rstrip("0123456789")].append(value)
        for chunks in parts.values():
            self.take(where, b"".join(chunks))

    def take_logs(self) -> None:
        for path in sorted(self._stack.run_dir.rglob("*")):
            if path.is_file():
                self.take(f"file {path.name}", path.read_bytes())

    async def take_all(self) -> None:
        await self.take_queues()
        await self.take_tables()
        self.take_logs()
