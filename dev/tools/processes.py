"""One child process of the local stack: start until ready, stop, kill, and say why it failed.

Which processes there are and what happens when one ends is the stack's affair.
"""

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp


class StackError(Exception):
    """The local stack cannot start or go on; the text says why and what to do."""


_POLL_S = 0.05
_TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1


class Process:
    """A process with a log file, a pid file, and a question that tells when it is ready."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environ: Mapping[str, str],
        folder: Path,
        run_dir: Path,
        is_ready: Callable[[], Awaitable[bool]],
    ) -> None:
        """Prepare `command`, to be run in `folder`; files go to `run_dir`/NAME.log and .pid."""
        self.name = name
        self.command = command
        self.environ = dict(environ)
        self.log_path = run_dir / f"{name}.log"
        self.pid_path = run_dir / f"{name}.pid"
        self._folder = folder
        self._is_ready = is_ready
        self._process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int:
        """Return the process id. Raises StackError when it is not running."""
        if self._process is None or self._process.returncode is not None:
            raise StackError(f"{self.name} is not running")
        return self._process.pid

    async def start(self, timeout: float) -> None:
        """Start and wait until ready. Raises StackError with the end of the log otherwise."""
        self.ready.clear()
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environ,
                cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                # Ctrl-C in the terminal must reach the stack alone: it stops its children
                # one after the other.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid_path.write_text(f"{self._process.pid}\n")
        try:
            async with asyncio.timeout(timeout):
                await self._until_ready(self._process)
        except TimeoutError as error:
            await self.stop(grace=0)
            raise StackError(
                f"{self.name} was not ready after {timeout:g} s; {self._tail()}"
            ) from error
        except BaseException:  # cancelled, too: no process may stay behind
            await self.stop(grace=0)
            raise
        self.ready.set()

    async def wait(self) -> int:
        """Wait until the process ends and return its exit code (negative: the signal)."""
        if self._process is None:
            raise StackError(f"{self.name} was never started")
        code = await self._process.wait()
        self.ready.clear()
        return code

    async def stop(self, grace: float) -> None:
        """End the process: SIGTERM, after `grace` seconds SIGKILL. Does nothing if it ended."""
        process = self._process
        if process is None:
            return
        self.ready.clear()
        if process.returncode is None and grace > 0:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        if process.returncode is None:
            self.signal(signal.SIGKILL)
            await process.wait()
        self.pid_path.unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self.ready.clear()
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                raise StackError(
                    f"{self.name} ended with code {process.returncode}; {self._tail()}"
                )
            if await self._is_ready():
                return
            await asyncio.sleep(_POLL_S)

    def _tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n  ".join([f"the end of {self.log_path}:", *lines[-_TAIL_LINES:]])


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Ask Linux to end this child when the stack is killed, so that no port stays taken."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def answers(url: str) -> bool:
    """Tell whether a GET of `url` answers 200 within two seconds."""
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def listens(port: int) -> bool:
    """Tell whether something on this machine accepts connections on `port`."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
