"""The host's life: index the app, serve, drive timers and queues, stop in good order.

Stopping: no new work is taken, running invocations get ten seconds, then the process ends.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev.devhost import config, functions, worker
from dev.devhost.admin import Admin
from dev.devhost.config import ConfigError
from dev.devhost.eventgrid import EventGridWebhook
from dev.devhost.functions import Function
from dev.devhost.http_functions import HttpFunctions
from dev.devhost.invoker import Invoker
from dev.devhost.keys import Keys
from dev.devhost.server import Server
from dev.devhost.timers import Timer

if TYPE_CHECKING:
    from dev.devhost.queue_store import QueueStore
    from dev.devhost.queues import QueueListener

log = logging.getLogger("devhost")

_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the host; `lease` in seconds, `port` 0 means any free one."""

    app: Path
    port: int
    bind: str
    lease: float
    keys: Keys | None
    """None: no keys are asked for."""
    state_dir: Path | None
    verbose: bool


class Host:
    """One app, served."""

    def __init__(self, options: Options, config: config.HostConfig) -> None:
        self._options = options
        self._config = config
        self._stores: dict[str, QueueStore] = {}
        self._listeners: list[QueueListener] = []
        self._loops: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT and return the exit code.

        Raises HostError when the app cannot be indexed or served.
        """
        stop = _stop_on_signals()
        app = self._options.app
        all_functions = await worker.index(app, os.environ, verbose=self._options.verbose)
        _list(all_functions)
        invoker = Invoker(app, self._config.function_timeout, self._write_outputs)
        timers = self._timers(all_functions, invoker)
        # As in the cloud, the others run without one that is in error.
        all_functions = [
            function
            for function in all_functions
            if function.kind != functions.TIMER or function.name in timers
        ]
        enabled = [function for function in all_functions if not function.disabled]
        self._listen(enabled, invoker)
        keys = self._options.keys
        http = HttpFunctions(_of(enabled, functions.HTTP), self._config.http, invoker, keys)
        admin = Admin(all_functions, timers, http.routes, invoker)
        webhook = EventGridWebhook(_of(enabled, functions.EVENT_GRID), invoker, keys)
        server = Server(http, webhook, admin, keys, self._options.bind)
        port = await server.start(self._options.port)
        self._loops = [
            asyncio.create_task(timer.loop(), name=timer.function.name)
            for timer in timers.values()
            if not timer.function.disabled
        ]
        self._loops += [
            asyncio.create_task(listener.loop(), name=listener.name) for listener in self._listeners
        ]
        log.info("ready on http://%s:%d", self._options.bind, port)
        code = await self._watch(stop)
        log.info("stopping")
        await self._stop(server, admin, invoker)
        return code

    def _timers(self, all_functions: list[Function], invoker: Invoker) -> dict[str, Timer]:
        timers: dict[str, Timer] = {}
        for function in _of(all_functions, functions.TIMER):
            try:
                timers[function.name] = Timer(function, invoker, self._options.state_dir)
            except ConfigError as error:
                log.error("function %s is in error and does not run: %s", function.name, error)
        return timers

    async def _watch(self, stop: asyncio.Event) -> int:
        """Wait for the stop signal, or for a trigger loop that broke: that is a host bug."""
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([waiting, *self._loops], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        code = 0
        for task in done - {waiting}:
            log.critical("trigger %s broke", task.get_name(), exc_info=task.exception())
            code = 1
        return code

    async def _stop(self, server: Server, admin: Admin, invoker: Invoker) -> None:
        await server.stop_listening()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        admin.cancel()
        await invoker.drain(_GRACE_S)
        for listener in self._listeners:
            await listener.finish(2.0)
        await server.close()
        for store in self._stores.values():
            await store.close()
        worker.stop()

    def _listen(self, enabled: list[Function], invoker: Invoker) -> None:
        """Prepare the queue listeners; their SDK is imported only by apps that have queues."""
        wanted = _of(enabled, functions.QUEUE)
        if not wanted:
            return
        from dev.devhost.queues import QueueListener

        for function in wanted:
            listener = QueueListener(
                function,
                self._store(function.trigger),
                self._config.queues,
                invoker,
                self._options.lease,
            )
            self._listeners.append(listener)
            invoker.on_finished(listener.nudge)

    def _store(self, binding: Any) -> "QueueStore":
        from dev.devhost.queue_store import QueueStore

        connection = functions.storage_connection(binding, os.environ)
        if connection not in self._stores:
            try:
                self._stores[connection] = QueueStore(connection)
            except ValueError as error:
                # Not the SDK's text: it may quote the connection string, key and all.
                setting = binding.get("connection") or "AzureWebJobsStorage"
                raise ConfigError(f"{setting} is not a storage connection string") from error
        return self._stores[connection]

    async def _write_outputs(self, function: Function, returned: Any, outputs: Any) -> None:
        from dev.devhost.queue_store import QueueOutputs

        writer = QueueOutputs(self._store, self._config.queues.base64)
        await writer.write(function, returned, outputs)


def _of(candidates: list[Function], kind: str) -> list[Function]:
    return [function for function in candidates if function.kind == kind]


def _list(all_functions: list[Function]) -> None:
    for function in all_functions:
        state = " (switched off)" if function.disabled else ""
        log.info("function %s: %s%s", function.name, function.kind, state)


def _stop_on_signals() -> asyncio.Event:
    """Return an event set by the first signal; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopper(number: int) -> Callable[[], None]:
        def on_signal() -> None:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()

        return on_signal

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopper(number))
    return stop
