"""Starts, watches and stops sandbox, Azurite and the Functions host together.

A host that dies is started again at once, as Azure would. The sandbox keeps Azure and W&B in
memory, so when it or Azurite dies by itself the stack cannot go on and says so.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.devhost import config
from dev.tools import azurite, ports, processes, wiring
from dev.tools.ports import Ports
from dev.tools.processes import Process, StackError

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0
# The host itself gives running invocations ten seconds.
_HOST_GRACE_S = 13.0
_GRACE_S = 5.0
# A host that keeps dying this soon after its start is restarted ever more slowly.
_SHORT_LIFE_S = 3.0
_LONGEST_PAUSE_S = 5.0


def say(line: str) -> None:
    """Print one line of progress at once, also into a pipe."""
    print(line, flush=True)


class Stack:
    """The three processes, and where they listen."""

    def __init__(
        self,
        *,
        run_dir: Path = ROOT / ".run",
        isolated: bool = False,
        app: Path = ROOT,
        fresh: bool = True,
        in_memory: bool | None = None,
        env: Mapping[str, str] | None = None,
        host_env: Mapping[str, str] | None = None,
        lease: float | None = None,
        log_storage: bool = False,
        progress: Callable[[str], None] = say,
    ) -> None:
        """Prepare a stack; entering it starts the processes.

        `isolated` is for tests and benches: free ports, storage in memory, and the sandbox's
        W&B whatever the environment says. Otherwise ports and settings come from the
        environment. `env` goes to all three processes, `host_env` to the host alone; both win.
        `fresh` empties kept storage first. `lease` is the host's queue lease in seconds,
        otherwise HOST_LEASE_S or 20. `log_storage` has azurite.log list each request.
        Raises StackError for a malformed port variable or settings file.
        """
        self.run_dir = run_dir.resolve()
        self.ports: Ports = ports.free() if isolated else ports.from_environ(os.environ)
        self.host_starts = 0
        self._app = app.resolve()
        self._fresh = fresh
        self._in_memory = isolated if in_memory is None else in_memory
        self._progress = progress
        self._lease = lease
        self._log_storage = log_storage
        wiring_now = (
            wiring.isolated(self.ports)
            if isolated
            else wiring.joined(self.ports, os.environ, self._app)
        )
        self._environ = {**os.environ, **self.ports.environ(), **(env or {})}
        self._host_environ = {**self._environ, **wiring_now, **(env or {}), **(host_env or {})}
        self._processes: dict[str, Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] | None = None

    @property
    def sandbox_url(self) -> str:
        """Return where Azure and the sandbox's control paths answer."""
        return f"http://127.0.0.1:{self.ports.sandbox}"

    @property
    def wandb_url(self) -> str:
        """Return where the W&B that the host writes to answers."""
        return self._host_environ["WANDB_BASE_URL"]

    @property
    def host_url(self) -> str:
        """Return where the Functions host answers."""
        return f"http://127.0.0.1:{self.ports.host}"

    @property
    def storage_connection(self) -> str:
        """Return Azurite's connection string."""
        return config.azurite_connection(str(self.ports.azurite))

    @property
    def host_pid(self) -> int:
        """Return the host's process id. Raises StackError while it is down."""
        return self._processes["host"].pid

    async def __aenter__(self) -> Self:
        """Start everything. Raises StackError with the reason; nothing is left running then."""
        self.ports.check_free()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._failure = asyncio.get_running_loop().create_future()
        self._prepare()
        try:
            # Each start ends before a failure is raised: none goes on behind our back.
            starts = await asyncio.gather(
                self._start("sandbox"), self._start("azurite"), return_exceptions=True
            )
            for failed in filter(None, starts):
                raise failed
            await self._start("host")
        except BaseException:  # a Ctrl-C too: no process may stay behind
            await self._stop_all()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop_all()

    async def failure(self) -> None:
        """Wait until the stack cannot go on, and raise the StackError that says why."""
        assert self._failure is not None, "the stack was not started"
        await asyncio.shield(self._failure)

    def kill_host(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill the host; it is started again at once. Await `wait_host` to use it."""
        self._processes["host"].signal(number)

    async def wait_host(self, timeout: float = _START_S) -> None:
        """Wait until the host is up. Raises TimeoutError."""
        await asyncio.wait_for(self._processes["host"].ready.wait(), timeout)

    async def stop_host(self) -> None:
        """Stop the host in good order and leave it stopped."""
        await self._stop("host")

    async def start_host(self) -> None:
        """Start a stopped host. Raises StackError when it does not come up."""
        await self._start("host")

    async def restart_host(self) -> None:
        """Stop the host in good order and start it again."""
        await self.stop_host()
        await self.start_host()

    async def restart_azurite(self) -> None:
        """Stop storage and start it again; with storage in memory its content is lost."""
        await self._stop("azurite")
        await self._start("azurite")

    def _prepare(self) -> None:
        """Lay out files and processes of this start."""
        data = None if self._in_memory else self.run_dir / "azurite"
        if data is not None:
            if self._fresh:
                shutil.rmtree(data, ignore_errors=True)
            data.mkdir(exist_ok=True)
        timers = self.run_dir / "timers"
        if self._fresh:
            shutil.rmtree(timers, ignore_errors=True)
        storage = azurite.command(ROOT, self.ports.azurite, data, log=self._log_storage)
        sandbox = [sys.executable, "-m", "dev.sandbox.server"]

        async def sandbox_is_ready() -> bool:
            return await processes.answers(f"{self.sandbox_url}/_sandbox/health")

        async def azurite_is_ready() -> bool:
            first = self.ports.azurite
            return all([await processes.listens(port) for port in range(first, first + 3)])

        place, environ = self.run_dir, self._environ
        self._processes = {
            "sandbox": Process("sandbox", sandbox, environ, ROOT, place, sandbox_is_ready),
            "azurite": Process("azurite", storage, environ, ROOT, place, azurite_is_ready),
            "host": self.new_host("host", self.ports.host, "--state-dir", str(timers)),
        }
        for process in self._processes.values():
            process.log_path.write_bytes(b"")

    def new_host(
        self,
        name: str,
        port: int,
        *options: str,
        env: Mapping[str, str] | None = None,
        app: Path | None = None,
        module: str = "dev.devhost",
    ) -> Process:
        """Prepare a host on this stack's sandbox and storage, with its settings; `env` wins.

        The caller starts and stops it.
        """
        command = [sys.executable, "-m", module, "--app", str(app or self._app)]
        command += ["--port", str(port)]
        if self._lease is not None:
            command += ["--lease", f"{self._lease:g}"]

        async def is_ready() -> bool:
            # The one admin path that asks for no key.
            return await processes.answers(f"http://127.0.0.1:{port}/admin/host/ping")

        environ = {**self._host_environ, **(env or {})}
        return Process(name, [*command, *options], environ, ROOT, self.run_dir, is_ready)

    async def _start(self, name: str) -> None:
        started = time.monotonic()
        self._progress(f"{name}: starting")
        await self._processes[name].start(_START_S)
        if name == "azurite":
            await azurite.make_queues(self.storage_connection, wiring.QUEUES)
        if name == "host":
            self.host_starts += 1
        self._progress(f"{name}: ready after {time.monotonic() - started:.1f} s")
        watch = self._watch_host() if name == "host" else self._watch(name)
        self._watchers[name] = asyncio.create_task(watch)

    async def _stop(self, name: str) -> None:
        if watcher := self._watchers.pop(name, None):
            watcher.cancel()
            await asyncio.wait([watcher])
        if process := self._processes.get(name):
            await process.stop(_HOST_GRACE_S if name == "host" else _GRACE_S)

    async def _stop_all(self) -> None:
        for name in ("host", "sandbox", "azurite"):
            await self._stop(name)

    async def _watch(self, name: str) -> None:
        process = self._processes[name]
        code = await process.wait()
        process.pid_path.unlink(missing_ok=True)
        self._fail(
            StackError(
                f"{name} ended by itself ({_ending(code)}), its memory is lost; "
                f"see {process.log_path}, then start the stack again"
            )
        )

    async def _watch_host(self) -> None:
        host, pause = self._processes["host"], 0.0
        while True:
            born = time.monotonic()
            code = await host.wait()
            self._progress(f"host: ended ({_ending(code)}), starting it again")
            lived = time.monotonic() - born
            pause = 0.0 if lived > _SHORT_LIFE_S else min(pause * 2 + 0.25, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause)
            try:
                await host.start(_START_S)
            except StackError as error:
                self._progress(str(error))
                continue
            self.host_starts += 1
            self._progress("host: ready again")

    def _fail(self, error: StackError) -> None:
        self._progress(str(error))
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
            # Retrieved: a test that never awaits `failure` must not be told twice.
            self._failure.exception()


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
