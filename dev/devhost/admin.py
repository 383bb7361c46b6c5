"""The host's admin API: its state, its functions, and running one of them now.

`POST /admin/functions/NAME` answers 202 at once, as in the cloud; with `?wait=1`, which the
cloud lacks, it answers when the function has finished. A switched-off trigger does not keep a
function from being run by hand.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from dev.devhost import functions
from dev.devhost.functions import Function
from dev.devhost.http_functions import RouteTable
from dev.devhost.invoker import Invoker, Outcome
from dev.devhost.timers import Timer
from dev.devhost.worker import Datum

log = logging.getLogger("devhost.admin")

PREFIX = "/admin/"
PING = "/admin/host/ping"
_VERSION = "4.0.0-local"


class Admin:
    """Answers everything under /admin/."""

    def __init__(
        self,
        app_functions: list[Function],
        timers: Mapping[str, Timer],
        routes: RouteTable,
        invoker: Invoker,
    ) -> None:
        self._functions = {function.name.lower(): function for function in app_functions}
        self._timers = timers
        self._routes = routes
        self._invoker = invoker
        self._started = time.monotonic()
        self._runs: set[asyncio.Task[Outcome]] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route one admin request; 404 for paths the local host lacks."""
        parts = request.rel_url.path.strip("/").lower().split("/")[1:]
        match request.method, parts:
            case "GET", ["host", "status"]:
                return web.json_response(self._status())
            case "GET" | "POST", ["host", "ping"]:
                return web.Response()
            case "GET", ["functions"]:
                listed = [self._describe(f, request) for f in self._functions.values()]
                return web.json_response(listed)
            case "GET", ["functions", name] if name in self._functions:
                return web.json_response(self._describe(self._functions[name], request))
            case "POST", ["functions", name] if name in self._functions:
                return await self._run(self._functions[name], request)
        return web.Response(status=404)

    def cancel(self) -> None:
        """Stop runs that have not reached their function yet, for instance waiting timers."""
        for run in self._runs:
            run.cancel()

    async def _run(self, function: Function, request: web.BaseRequest) -> web.Response:
        try:
            body = json.loads(await request.read() or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return web.Response(status=400, text='the body must look like {"input": "..."}')
        if function.kind == functions.HTTP:
            return web.Response(status=400, text="call an HTTP function by its own address")
        text = body.get("input") or ""
        if not isinstance(text, str):
            return web.Response(status=400, text="input must be a string")
        if function.kind == functions.EVENT_GRID and not _is_object(text):
            return web.Response(status=400, text="input must be one event, a JSON object")
        run = asyncio.create_task(self._invoke(function, text))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        if request.query.get("wait", "0") in ("", "0"):
            return web.Response(status=202)
        outcome = await asyncio.shield(run)
        return web.json_response(
            {
                "invocationId": outcome.invocation_id,
                "outcome": "succeeded" if outcome.ok else "failed",
                "error": outcome.error or None,
                "durationMs": round(outcome.seconds * 1e3, 3),
            },
            status=200 if outcome.ok else 500,
        )

    async def _invoke(self, function: Function, text: str) -> Outcome:
        if function.kind == functions.TIMER:
            return await self._timers[function.name].run_by_hand()
        if function.kind == functions.EVENT_GRID:
            return await self._invoker.invoke(function, Datum(text, "json"))
        return await self._invoker.invoke(function, Datum(text, "string"), _queue_metadata())

    def _status(self) -> dict[str, Any]:
        return {
            "id": "localhost",
            "state": "Running",
            "version": _VERSION,
            "versionDetails": "local host on azure-functions-runtime",
            "processUptime": round((time.monotonic() - self._started) * 1e3),
            "functions": [function.name for function in self._functions.values()],
            "runningInvocations": self._invoker.running,
        }

    def _describe(self, function: Function, request: web.BaseRequest) -> dict[str, Any]:
        base = str(request.url.origin())
        described: dict[str, Any] = {
            "name": function.name,
            "href": f"{base}/admin/functions/{function.name}",
            "language": "python",
            "isDisabled": function.disabled,
            "config": {"bindings": [dict(function.trigger), *map(dict, function.outputs)]},
        }
        if function.kind == functions.HTTP and not function.disabled:
            described["invoke_url_template"] = base + self._routes.url_path(function)
        return described


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _queue_metadata() -> dict[str, Datum]:
    """Stand in for the metadata of a message that never was on a queue."""
    now = datetime.now(UTC)
    texts = {
        "Id": "00000000-0000-0000-0000-000000000000",
        "PopReceipt": "",
        "InsertionTime": now.isoformat(),
        "ExpirationTime": (now + timedelta(days=7)).isoformat(),
        "NextVisibleTime": now.isoformat(),
    }
    metadata = {name: Datum(text, "string") for name, text in texts.items()}
    metadata["DequeueCount"] = Datum(1, "int")
    return metadata
