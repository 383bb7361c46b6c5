"""Event Grid custom topics: takes what the app publishes and keeps it to be read back."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dev.sandbox.arm import arm
from dev.sandbox.http import Call, Handler, Routes, json_response
from dev.sandbox.store import World

_CREDENTIALS = ("Authorization", "aeg-sas-key", "aeg-sas-token")
_CLOUD_REQUIRED = ("id", "source", "specversion", "type")
_GRID_REQUIRED = ("id", "subject", "eventType", "eventTime", "data", "dataVersion")


@dataclass
class Published:
    """Events in the order received: `{"topic", "schema", "received_at", "event"}` each."""

    events: list[dict[str, Any]] = field(default_factory=list)


def published(world: World) -> list[dict[str, Any]]:
    return world.part("notices", Published).events


def _refused(status: int, code: str, message: str) -> web.Response:
    detail = {"code": "InputJsonInvalid", "message": message}
    return json_response({"error": {"code": code, "message": message, "details": [detail]}}, status)


def routes(world: World) -> Handler:
    """Build the topics' publish endpoint: any topic name exists, any credential is good."""

    async def publish(call: Call) -> web.Response:
        if not any(name in call.headers for name in _CREDENTIALS):
            return _refused(
                401, "Unauthorized", "Request must contain one of: aeg-sas-key, Authorization."
            )
        try:
            body = call.json()
        except ValueError:
            return _refused(400, "BadRequest", "This resource is configured to receive JSON.")
        events = body if isinstance(body, list) else [body]
        cloud = "cloudevents" in call.headers.get("Content-Type", "")
        for index, event in enumerate(events):
            required = _CLOUD_REQUIRED if cloud else _GRID_REQUIRED
            missing = [
                name for name in required if not isinstance(event, dict) or event.get(name) is None
            ]
            if missing:
                return _refused(
                    400, "BadRequest", f"Property '{missing[0]}' is required. Path '[{index}]'."
                )
        topic = call.host.removesuffix(".eventgrid.azure.net")
        schema = "CloudEventSchemaV1_0" if cloud else "EventGridSchema"
        published(world).extend(
            {"topic": topic, "schema": schema, "received_at": arm.now(), "event": event}
            for event in events
        )
        return web.Response(status=200)

    async def not_found(call: Call) -> web.Response:
        return _refused(404, "NotFound", f"Nothing is known at '{call.path}'.")

    table = Routes(not_found)
    table.add("POST", "/api/events", publish)
    return table
