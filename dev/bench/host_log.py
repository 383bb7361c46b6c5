"""Reads the Functions host's log while it runs: what a tick sent, and which invocations ended.

The log is a file: looking at it costs the measured processes nothing.
"""

import asyncio
import re
import time
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.004
_TICK: Final = re.compile(
    rb"tick: (\d+) accounts, (\d+) jobs listed, (\d+) messages, (\d+) accounts failed"
)


class HostLog:
    """Follows one log from where it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.stat().st_size
        self._text = b""

    def read(self) -> bytes:
        """Return everything that was written since this object was made."""
        with self._path.open("rb") as file:
            file.seek(self._place)
            new = file.read()
        self._place += len(new)
        self._text += new
        return self._text

    async def wait(self, pattern: str, count: int, *, seconds: float) -> None:
        """Wait until so many lines match. Raises TimeoutError with the end of the log."""
        wanted = re.compile(pattern.encode())
        end = time.monotonic() + seconds
        while len(wanted.findall(self.read())) < count:
            if time.monotonic() > end:
                tail = self._text[-2000:].decode(errors="replace")
                raise TimeoutError(f"not {count} times {pattern!r} in {seconds:.0f} s:\n{tail}")
            await asyncio.sleep(_POLL_S)

    def messages_sent(self) -> int:
        """Return how many messages the ticks since then sent. Raises ValueError for none."""
        found = _TICK.findall(self.read())
        if not found:
            raise ValueError("the host's log tells of no tick")
        return sum(int(messages) for _, _, messages, _ in found)
