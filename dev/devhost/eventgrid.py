"""The Event Grid webhook: handshakes, and one invocation per event.

Answers as the Event Grid extension does: 202 when every event succeeded, 500 when any failed
(the whole delivery is then sent again), 404 for a function it does not have. A notification that
is not JSON, or not an object, gets 500 too: Event Grid tries it again.
"""

import asyncio
import json

from aiohttp import web

from dev.devhost.functions import Function
from dev.devhost.invoker import Invoker
from dev.devhost.keys import Keys
from dev.devhost.worker import Datum

PATH = "/runtime/webhooks/eventgrid"


class EventGridWebhook:
    """Delivers events to the app's Event Grid functions."""

    def __init__(self, functions: list[Function], invoker: Invoker, keys: Keys | None) -> None:
        self._keys = keys
        self._functions = {function.name: function for function in functions}
        self._invoker = invoker

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one delivery or handshake for the function in the query."""
        if self._keys and (status := self._keys.refuse_event(request)):
            return web.Response(status=status)
        name = request.query.get("functionName", "")
        function = self._functions.get(name)
        if function is None:
            return web.Response(status=404, text=f"cannot find function: '{name}'")
        if request.method == "OPTIONS":
            return web.Response(headers={"Webhook-Allowed-Origin": "eventgrid.azure.net"})
        if request.method != "POST":
            return web.Response(status=404)
        kind = request.headers.get("aeg-event-type", "").lower()
        if kind == "unsubscribe":
            return web.Response(status=202)
        if kind not in ("subscriptionvalidation", "notification"):
            return web.Response(status=400)
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.Response(status=500)
        return (
            _validate(body) if kind == "subscriptionvalidation" else await self._run(function, body)
        )

    async def _run(self, function: Function, body: object) -> web.Response:
        events = body if isinstance(body, list) else [body]
        if not all(isinstance(event, dict) for event in events):
            return web.Response(status=500)
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
    return web.Response(text=json.dumps({"validationResponse": code}))
