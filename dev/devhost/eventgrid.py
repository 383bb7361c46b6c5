"""The Event Grid webhook: handshakes, and one invocation per event.

Answers as the Event Grid extension does: 202 when every event succeeded, 500 when any failed
(the whole delivery is then sent again), 404 for a function it does not have. A body that is
not JSON gets 400, which Event Grid does not retry.
"""

import asyncio
import json

from aiohttp import web

from dev.devhost.functions import Function
from dev.devhost.invoker import Invoker
from dev.devhost.worker import Datum

PATH = "/runtime/webhooks/eventgrid"


class EventGridWebhook:
    """Delivers events to the app's Event Grid functions."""

    def __init__(self, functions: list[Function], invoker: Invoker) -> None:
        self._functions = {function.name: function for function in functions}
        self._invoker = invoker

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one delivery or handshake for the function in the query."""
        name = request.query.get("functionName", "")
        function = self._functions.get(name)
        if function is None:
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        if request.method == "OPTIONS":
            return _allow(request.headers.get("WebHook-Request-Origin"))
        if request.method != "POST":
            return web.Response(status=404)
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "unsubscribe":
            return web.Response(status=202)
        if kind not in ("subscriptionvalidation", "notification"):
            return web.Response(status=400, text="header aeg-event-type is missing or unknown")
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            return web.Response(status=400, text=f"the body is not JSON: {error}")
        return (
            _validate(body) if kind == "subscriptionvalidation" else await self._run(function, body)
        )

    async def _run(self, function: Function, body: object) -> web.Response:
        events = body if isinstance(body, list) else [body]
        if not all(isinstance(event, dict) for event in events):
            return web.Response(status=400, text="an event must be a JSON object")
        outcomes = await asyncio.gather(
            *(self._invoker.invoke(function, Datum(json.dumps(e), "json")) for e in events)
        )
        if all(outcome.ok for outcome in outcomes):
            return web.Response(status=202)
        # The cloud names the function only: an exception's text may hold more than the
        # sender should see.
        return web.Response(
            status=500, text=f"Exception while executing function: Functions.{function.name}"
        )


def _validate(body: object) -> web.Response:
    try:
        code = body[0]["data"]["validationCode"]  # type: ignore[index]
    except (LookupError, TypeError):
        return web.Response(status=400, text="no validationCode in the first event's data")
    return web.json_response({"validationResponse": code})


def _allow(origin: str | None) -> web.Response:
    if not origin:
        return web.Response(status=400, text="header WebHook-Request-Origin is missing")
    return web.Response(headers={"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"})
