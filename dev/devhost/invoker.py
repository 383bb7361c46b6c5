"""Runs invocations: one task each, timed, logged in one line, counted until done.

Decides how an invocation ends and writes its output bindings. One that runs into functionTimeout
ends the process, with everything that runs in it. When to invoke, and what a failure means for the message or the caller, is up to the triggers.
"""

import asyncio
import logging
import os
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from dev.devhost import worker
from dev.devhost.functions import Function
from dev.devhost.worker import Datum

log = logging.getLogger("devhost.invoke")

Sink = Callable[[Function, Datum | None, list[tuple[str, Datum]]], Awaitable[None]]
_TIMED_OUT = 4
"""Exit code."""
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one invocation ended; `value` is what the function returned, `error` why it failed."""

    invocation_id: str
    ok: bool
    value: Datum | None
    error: str
    seconds: float


class Invoker:
    """Invokes functions and knows which invocations are still running."""

    def __init__(self, app: Path, timeout: float | None, write_outputs: Sink) -> None:
        """Invoke functions of `app`, each for at most `timeout` seconds (None: no limit)."""
        self._app = str(app)
        self._timeout = timeout
        self._write_outputs = write_outputs
        self._running: set[asyncio.Task[Outcome]] = set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def running(self) -> int:
        """Return the number of invocations under way."""
        return len(self._running)

    def on_finished(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each invocation: it may have put messages on a queue."""
        self._listeners.append(listener)

    async def invoke(
        self,
        function: Function,
        datum: Datum,
        metadata: dict[str, Datum] | None = None,
        *,
        trace_parent: str = "",
        trace_state: str = "",
        attempt: int = 0,
    ) -> Outcome:
        """Run the function once and return how it ended; its exceptions are not raised.

        Cancelling the caller leaves the invocation running, as a client that hangs up does in
        the cloud. Raises CancelledError when the host stops before the function has finished.
        """
        invocation_id = str(uuid.uuid4())
        trace_parent = trace_parent or f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"
        # A task of its own: the library attaches trace context and never takes it off again.
        task = asyncio.create_task(
            self._run(
                invocation_id,
                function,
                datum,
                metadata or {},
                trace_parent,
                trace_state,
                attempt,
            )
        )
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def drain(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for running invocations, cancel the rest, count those."""
        if self._running:
            log.info("waiting for %d running invocations", len(self._running))
            await asyncio.wait(self._running, timeout=timeout)
        left = [task for task in self._running if not task.done()]
        for task in left:
            task.cancel()
        if left:
            log.warning("%d invocations did not finish in %.0f s; cancelled", len(left), timeout)
            await asyncio.wait(left, timeout=1)
        return len(left)

    async def _run(
        self,
        invocation_id: str,
        function: Function,
        datum: Datum,
        metadata: dict[str, Datum],
        trace_parent: str,
        trace_state: str,
        attempt: int,
    ) -> Outcome:
        started = time.perf_counter()
        value, error = None, ""
        try:
            async with asyncio.timeout(self._timeout):
                result = await worker.invoke(
                    invocation_id,
                    function,
                    [(function.parameter, datum)],
                    metadata,
                    trace_parent=trace_parent,
                    trace_state=trace_state,
                    attempt=attempt,
                )
            value = result.value
            if not result.ok:
                error = result.error + self._place(result.trace)
            elif function.outputs:
                await self._write_outputs(function, result.value, result.outputs)
        except TimeoutError:
            log.critical(
                "%s %s took longer than functionTimeout (%g s); the process ends, and all that "
                "runs in it",
                *(function.name, invocation_id, self._timeout),
            )
            # As the real host kills its worker: neighbours die too, and storage keeps their
            # messages until the lease is over.
            os._exit(_TIMED_OUT)
        except Exception as failure:  # an output that cannot be written fails the invocation
            error = f"output binding: {failure!r}"
        seconds = time.perf_counter() - started
        if error:
            log.error(
                "%s %s failed in %.0f ms: %s", function.name, invocation_id, seconds * 1e3, error
            )
        else:
            log.info("%s %s succeeded in %.0f ms", function.name, invocation_id, seconds * 1e3)
        return Outcome(invocation_id, not error, value, error, seconds)

    def _place(self, trace: str) -> str:
        """Name the innermost line of the app's own code, the one a developer looks for."""
        frames = [
            (path, line)
            for path, line in _FRAME.findall(trace)
            if path.startswith(self._app) and "site-packages" not in path
        ]
        if not frames:
            return ""
        path, line = frames[-1]
        return f" ({path[len(self._app) :].lstrip('/')}:{line})"

    def _finished(self, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(task)
        for listener in self._listeners:
            listener()
