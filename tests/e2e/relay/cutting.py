"""A fine-tuning API over bare sockets that breaks its answers off where a test says so.

An HTTP library would not send what is sent here: a body shorter than its length, chunks without
their end, a body whose end nobody names.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MODES = ("matching", "longer", "chunked", "close")
"""How a cut body is sent: with the cut's own length, with the whole's, in chunks, with no length."""


@dataclass
class CuttingApi:
    """`bodies` are looked up by the end of the path; `cuts` by the same, as (place, mode)."""

    url: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        path = urlsplit(head.split(b" ", 2)[1].decode()).path
        name = next((one for one in self.bodies if path.endswith(one)), "")
        if not name:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n")
            writer.write(b"Connection: close\r\n\r\n")
        else:
            whole = self.bodies[name]
            place, mode = self.cuts.get(name, (len(whole), "matching"))
            writer.write(_answer(whole, place, mode))
        await writer.drain()
        writer.close()


def _answer(whole: bytes, place: int, mode: str) -> bytes:
    body = whole[:place]
    length = {
        "matching": f"Content-Length: {place}\r\n",
        "longer": f"Content-Length: {len(whole)}\r\n",
    }
    line = length.get(mode, "Transfer-Encoding: chunked\r\n" if mode == "chunked" else "")
    if mode == "chunked":
        # The length of a chunk is of all of it; what follows it never comes.
        body = f"{len(whole):x}\r\n".encode() + body
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{line}"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@asynccontextmanager
async def cutting_api() -> AsyncIterator[CuttingApi]:
    """Serve on a free port of loopback."""
    api = CuttingApi()
    server = await asyncio.start_server(api.handle, "127.0.0.1", 0)
    api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield api
