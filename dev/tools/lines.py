"""Modules that run in a process of their own and answer each line of JSON with one.

Their imports are over when they are needed, and they share neither memory nor event loop with
the process that asks them. What they print besides their answers goes to a log.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from dev.tools.local_stack import ROOT

_LONGEST_LINE: Final = 256 * 1024 * 1024
_GRACE_S: Final = 5.0


class Lines:
    """A running module that is asked line by line."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def ask(self, question: object, *, seconds: float | None = None) -> dict[str, Any]:
        """Send one line and return the answer.

        Raises RuntimeError with the end of the log for a process that has ended, or does not
        answer in time.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "started with a pipe"
        assert stdout is not None, "started with a pipe"
        line = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                stdin.write(json.dumps(question).encode() + b"\n")
                await stdin.drain()
                line = await stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace")[-1000:]
            raise RuntimeError(f"no answer, see {self._log}: {tail}")
        return dict(json.loads(line))


@asynccontextmanager
async def lines(module: str, *arguments: str, log: Path) -> AsyncIterator[Lines]:
    """Run `python -m MODULE ARGUMENTS`; its standard error goes to `log`."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=_LONGEST_LINE,
        )
    try:
        yield Lines(process, log)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _GRACE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


# In the module that is asked


@contextlib.contextmanager
def answers() -> Iterator[TextIO]:
    """Yield where answers are written; whatever else is printed meanwhile goes to the log."""
    with os.fdopen(os.dup(1), "w", buffering=1) as stream:
        os.dup2(2, 1)
        yield stream


def questions() -> Iterator[Any]:
    """Yield what is asked, until the asking process is through."""
    for line in sys.stdin:
        yield json.loads(line)


def isolate_wandb(folder: str, environ: Mapping[str, str]) -> None:
    """Have the wandb SDK, before its import, keep to `folder`, be quiet and use these settings.

    A key or a host of the person who runs this must not take the place of those asked for.
    """
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    for place in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        os.environ[place] = folder
    os.environ.update(WANDB_SILENT="true", WANDB_ERROR_REPORTING="false", **environ)
