"""A TCP wire in front of storage that can be cut, so that storage requests fail like others.

`cut` is the chance that a request's connection is aborted: before storage sees the request, or
once it has answered, so that the write took effect and nobody was told.
"""

import asyncio
import contextlib
import random

_CHUNK = 65_536


class Wire:
    """One listening port, joined to one port of Azurite."""

    def __init__(self, rng: random.Random) -> None:
        self.target = 0
        self.cut = 0.0
        self.cuts = 0
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Listen on a free port and return it."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()  # storage is down: refused
            self._open.discard(task)
            return
        pumps = (
            asyncio.create_task(self._pump(reader, there[1])),
            asyncio.create_task(self._pump(there[0], writer)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.transport.abort()
            there[1].transport.abort()
            self._open.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                # Half of the chance for each way: a request meets both.
                if self.cut and self._rng.random() < self.cut / 2:
                    self.cuts += 1
                    return
                writer.write(data)
                await writer.drain()
