"""Serves HTTP functions: request to `Datum`, outcome to response.

A function that raises answers 500 with an empty body, as in the cloud. Limits on concurrent
and outstanding requests are those of host.json.
"""

import asyncio
import contextlib

from aiohttp import web
from multidict import CIMultiDict

from dev.devhost.functions import Function
from dev.devhost.host_json import HttpOptions
from dev.devhost.invoker import Invoker, Outcome
from dev.devhost.routes import RouteTable
from dev.devhost.worker import Datum

# aiohttp frames the body itself; an app's own framing headers could contradict it.
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


class HttpFunctions:
    """The app's HTTP functions behind their routes."""

    def __init__(self, functions: list[Function], options: HttpOptions, invoker: Invoker) -> None:
        """Raises ConfigError for a route template that cannot be read."""
        self.routes = RouteTable(functions, options.route_prefix)
        self._invoker = invoker
        self._slots = (
            asyncio.Semaphore(options.max_concurrent)
            if options.max_concurrent
            else contextlib.nullcontext()
        )
        self._max_outstanding = options.max_outstanding
        self._outstanding = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Invoke the function the request's path and method name; 404 if there is none."""
        found = self.routes.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        if self._max_outstanding is not None and self._outstanding >= self._max_outstanding:
            return web.Response(status=429)
        function, params = found
        self._outstanding += 1
        try:
            async with self._slots:
                datum = _request_datum(request, params, await request.read())
                outcome = await self._invoker.invoke(
                    function,
                    datum,
                    trace_parent=request.headers.get("traceparent", ""),
                    trace_state=request.headers.get("tracestate", ""),
                )
        finally:
            self._outstanding -= 1
        return _response(outcome)


def _request_datum(request: web.BaseRequest, params: dict[str, str], body: bytes) -> Datum:
    headers: dict[str, Datum] = {}
    for name, value in request.headers.items():
        key = name.lower()
        # Repeated headers and query fields arrive at a function joined by commas.
        joined = f"{headers[key].value},{value}" if key in headers else value
        headers[key] = Datum(joined, "string")
    query: dict[str, Datum] = {}
    for name, value in request.query.items():
        if value:  # the cloud's host drops fields without a value
            joined = f"{query[name].value},{value}" if name in query else value
            query[name] = Datum(joined, "string")
    return Datum(
        {
            "method": Datum(request.method, "string"),
            "url": Datum(str(request.url), "string"),
            "headers": headers,
            "query": query,
            "params": {name: Datum(value, "string") for name, value in params.items()},
            "body": Datum(body, "bytes"),
        },
        "http",
    )


def _response(outcome: Outcome) -> web.Response:
    if not outcome.ok:
        return web.Response(status=500)
    datum = outcome.value
    if datum is None:
        return web.Response(status=204)
    if datum.type != "http":
        return web.Response(text=datum.value)
    value = datum.value
    headers: CIMultiDict[str] = CIMultiDict()
    for name, text in value["headers"].items():
        if name.lower() not in _FRAMING:
            headers.add(name, text.value)
    for cookie in value["cookies"] or ():
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(
        status=int(value["status_code"].value), headers=headers, body=value["body"].value
    )
