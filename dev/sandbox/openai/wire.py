"""Shapes on the wire of the Azure OpenAI data plane, and of the gateway before it."""

from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from dev.sandbox.http import Call
from dev.sandbox.openai.pages import Page


class Refused(Exception):
    """A request that the service turns down; becomes its error body."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def invalid(message: str, param: str | None = None) -> Refused:
    return Refused(400, "invalidPayload", message, param)


def missing(what: str, identifier: str) -> Refused:
    return Refused(404, "notFound", f"The specified {what} '{identifier}' was not found.")


def answer(
    body: bytes,
    status: int = 200,
    content_type: str = "application/json; charset=utf-8",
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Answer with bytes that are ready to send, under a fresh correlation id."""
    return web.Response(
        body=body,
        status=status,
        headers={
            "Content-Type": content_type,
            "apim-request-id": str(uuid4()),
            "x-ms-region": "Sandbox",
            **(headers or {}),
        },
    )


def answer_json(body: Any, status: int = 200) -> web.Response:
    return answer(orjson.dumps(body), status)


def nothing() -> web.Response:
    """Answer 204."""
    return web.Response(status=204, headers={"apim-request-id": str(uuid4())})


def refusal(error: Refused) -> web.Response:
    body = {
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "type": "error",
    }
    return answer_json({"error": body}, error.status)


def unauthorised(audience: str = "https://cognitiveservices.azure.com") -> web.Response:
    """Answer as the gateway does to no credential, or to a token for another audience."""
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        f"({audience}), or have expired."
    )
    return answer_json({"statusCode": 401, "message": message}, 401)


def unrouted() -> web.Response:
    """Answer as the gateway does for a path, or a missing api-version, that leads nowhere."""
    return answer_json({"error": {"code": "404", "message": "Resource not found"}}, 404)


def listing(page: Page, with_ids: bool = False) -> web.Response:
    """Answer one page; `with_ids` names its first and last item as well."""
    ends = b""
    if with_ids:
        first, last = orjson.dumps(page.first_id), orjson.dumps(page.last_id)
        ends = b',"first_id":' + first + b',"last_id":' + last
    more = b"true" if page.has_more else b"false"
    body = b'{"object":"list","data":[' + b",".join(page.items) + b'],"has_more":' + more
    return answer(body + ends + b"}")


def read_limit(call: Call, default: int) -> int:
    """Return the `limit` of a list call, at least 1. Raises Refused for anything else."""
    text = call.query.get("limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal()) or not int(text):
        raise invalid("limit: must be a whole number from 1 up.", "limit")
    return int(text)
