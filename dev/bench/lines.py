"""A measuring process of our own: a line goes in, it does its work, a line of JSON comes back.

So its imports and its first connections are over when it is measured, and it shares neither
memory nor event loop with what drives it.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dev.tools.local_stack import ROOT


class Lines:
    """A running module that answers line by line."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def ask(self, question: object) -> dict[str, Any]:
        """Send one line and return the answer. Raises RuntimeError when the process has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "started with a pipe"
        assert stdout is not None, "started with a pipe"
        stdin.write(json.dumps(question).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended: {_tail(self._log)}")
        return dict(json.loads(line))


@asynccontextmanager
async def lines(module: str, *arguments: str, log: Path) -> AsyncIterator[Lines]:
    """Run `python -m MODULE ARGUMENTS`; what it says besides its answers goes to `log`."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Lines(process, log)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:]
