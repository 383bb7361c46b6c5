"""HTTP answers: JSON, and one form for every error (RFC 9457 problem details)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import azure.functions as func
import orjson

from finetune_wandb.model.errors import AppError, MissingError, SettingsError, TemporaryError

SAFE: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""A request's address can carry the function key, so pages must not send it as referrer."""


class RequestError(AppError):
    """A refused request, with the HTTP status; `field` names what is wrong."""

    def __init__(self, status: int, detail: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(detail, subject=field, remedy=remedy)
        self.status = status


def json_answer(
    body: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media: str = "application/json",
) -> func.HttpResponse:
    return func.HttpResponse(
        body if isinstance(body, bytes) else orjson.dumps(body),
        status_code=status,
        mimetype=media,
        headers={"Cache-Control": "no-store", **SAFE, **(headers or {})},
    )


def problem(error: AppError, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """Return an error's problem details: `field` names what is wrong, `remedy` what to do."""
    more = dict(headers or {})
    field = error.subject
    match error:
        case RequestError():
            status = error.status
        case MissingError():
            status = 404
        case SettingsError():
            status = 503
        case TemporaryError():
            status, field = 503, ""
            more["Retry-After"] = str(max(int(error.retry_after or 5), 1))
        case _:
            status = 502
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{field}: {error.message}" if field else error.message,
    }
    if field:
        body |= {"field": field, "reason": error.message}
    if error.remedy:
        body["remedy"] = error.remedy
    return json_answer(body, status, more, "application/problem+json")
