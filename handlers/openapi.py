"""HTTP: the app's own HTTP interface as an OpenAPI 3.1 document."""

from typing import Any, Final

import azure.functions as func

from handlers.dashboard import LIMIT, MOST_ON_PAGE
from handlers.openapi_schemas import SCHEMAS
from handlers.problem_details import json_answer
from handlers.resync import LONGEST_WAIT_S, MOST_BYTES
from handlers.status_query import MOST

NAME: Final = "openapi"


def document() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fine-tuning relay",
            "version": "1",
            "description": "Keeps Azure OpenAI fine-tuning wired to Weights & Biases. Every refusal"
            " is a problem document (RFC 9457). A missing or wrong key is refused with 401 by"
            " the host itself, without a body.",
        },
        "servers": [{"url": "/api"}],
        "security": [{"header": []}, {"query": []}],
        "paths": {
            "/resync": _path("post", _post_resync()),
            "/resync/{id}": _path("get", _get_resync()),
            "/status": _path("get", _get_status()),
            "/dashboard": _path("get", _get_dashboard()),
            "/openapi.json": _path("get", _get_document()),
            "/health": _path("get", _get_health()),
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "header": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "query": {"type": "apiKey", "in": "query", "name": "code"},
            },
        },
    }


def _path(method: str, operation: dict[str, Any]) -> dict[str, Any]:
    wrong = _problem("Another method; `Allow` names the right one.")
    return {method: operation | {"responses": operation["responses"] | {"405": wrong}}}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _problem(why: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": why, "content": {"application/problem+json": {"schema": schema}}}


_UNAVAILABLE: Final = _problem("A setting is wrong, or the app's storage does not answer now.")
_REFUSED: Final = _problem("The app's storage refuses it.")


def _parameter(name: str, about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": about, "schema": schema}


def _filters(usual: int, most: int) -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1}
    return [
        _parameter("account", "Name or ARM id of one account.", {"type": "string"}),
        _parameter("job", "Id of one job.", {"type": "string"}),
        _parameter(
            "unhealthy",
            "1: only what needs somebody.",
            {"type": "string", "enum": ["0", "1", "true", "false"]},
        ),
        _parameter("page", "From 1.", {**number, "maximum": 1_000_000, "default": 1}),
        _parameter(
            "limit", "Accounts and jobs, each.", {**number, "maximum": most, "default": usual}
        ),
    ]


def _post_resync() -> dict[str, Any]:
    wait = {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_S}
    location = {"Location": {"schema": {"type": "string"}, "description": "Where progress is."}}
    return {
        "operationId": "resync",
        "summary": "Check or mend everything, one account or one job.",
        "description": "The same request joins one that is running. Scope all with mode apply also"
        " puts messages that were set aside back on their queues.",
        "parameters": [_parameter("wait", "Seconds to wait for the end.", wait)],
        "requestBody": {"required": False, "content": _json("ResyncRequest")},
        "responses": {
            "200": {"description": "Done.", "headers": location, "content": _json("Resync")},
            "202": {"description": "Taken on.", "headers": location, "content": _json("Resync")},
            "400": _problem("A field or parameter is wrong; `field` names it."),
            "403": _problem("A page of another site asked."),
            "404": _problem("The account has no such job."),
            "413": _problem(f"The body is larger than {MOST_BYTES} bytes."),
            "415": _problem("The body is not application/json."),
            "502": _REFUSED,
            "503": _UNAVAILABLE,
        },
    }


def _get_resync() -> dict[str, Any]:
    return {
        "operationId": "resync_status",
        "summary": "How far a re-sync is.",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "responses": {
            "200": {"description": "Its progress.", "content": _json("Resync")},
            "404": _problem("No re-sync has this id."),
            "502": _REFUSED,
            "503": _UNAVAILABLE,
        },
    }


def _get_status() -> dict[str, Any]:
    return {
        "operationId": "status",
        "summary": "What is healthy, what is not, why, and what to do.",
        "parameters": _filters(MOST, MOST),
        "responses": {
            "200": {"description": "The situation now.", "content": _json("Status")},
            "304": {"description": "As the caller's If-None-Match says."},
            "400": _problem("A parameter is wrong; `field` names it."),
            "502": _REFUSED,
            "503": _UNAVAILABLE,
        },
    }


def _get_dashboard() -> dict[str, Any]:
    return {
        "operationId": "dashboard",
        "summary": "The status as a page for people.",
        "parameters": _filters(LIMIT, MOST_ON_PAGE),
        "responses": {
            "200": {
                "description": "The page.",
                "content": {"text/html": {"schema": {"type": "string"}}},
            },
            "304": {"description": "As the caller's If-None-Match says."},
            "400": _problem("A parameter is wrong; `field` names it."),
            "502": _REFUSED,
            "503": _UNAVAILABLE,
        },
    }


def _get_document() -> dict[str, Any]:
    return {
        "operationId": "openapi",
        "summary": "This document.",
        "responses": {
            "200": {
                "description": "OpenAPI 3.1.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    }


def _get_health() -> dict[str, Any]:
    return {
        "operationId": "health",
        "summary": "Whether the app is up, and which setting is wrong.",
        "security": [],
        "responses": {
            "200": {"description": "Up.", "content": _json("Health")},
            "503": {"description": "Down.", "content": _json("Health")},
        },
    }


def answer() -> func.HttpResponse:
    """Answer GET /api/openapi.json."""
    return json_answer(document())
