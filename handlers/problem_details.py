"""HTTP answers: JSON, and one form for every error (RFC 9457 problem details)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import azure.functions as func
import orjson

from finetune_wandb.model.errors import (
    AppError,
    MissingError,
    SettingsError,
    TemporaryError,
)

PROBLEM_TYPE = "application/problem+json"


class RequestError(Exception):
    """A request that is refused, with the HTTP status that says why; `field` is what is wrong."""

    def __init__(self, status: int, detail: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.remedy = remedy


def json_answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    return func.HttpResponse(
        body if isinstance(body, bytes) else orjson.dumps(body),
        status_code=status,
        mimetype="application/json",
        headers={"Cache-Control": "no-store", **SAFE, **(headers or {})},
    )


def problem(
    status: int,
    detail: str,
    *,
    field: str = "",
    remedy: str = "",
    retry_after: float | None = None,
    allowed: str = "",
) -> func.HttpResponse:
    """Return problem details: `field` names what is wrong, `detail` why, `remedy` what to do.

    `retry_after` is in seconds; `allowed` is the method to use instead.
    """
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{field}: {detail}" if field else detail,
    }
    if field:
        body |= {"field": field, "reason": detail}
    if remedy:
        body["remedy"] = remedy
    headers = {} if retry_after is None else {"Retry-After": str(max(int(retry_after), 1))}
    if allowed:
        headers["Allow"] = allowed
    return func.HttpResponse(
        orjson.dumps(body),
        status_code=status,
        mimetype=PROBLEM_TYPE,
        headers={"Cache-Control": "no-store", **SAFE, **headers},
    )


ANSWERED = (AppError, RequestError)
"""The errors that `answer_for` turns into an answer."""


def answer_for(error: AppError | RequestError) -> func.HttpResponse:
    """Return the problem details of an error."""
    if isinstance(error, RequestError):
        return problem(error.status, error.detail, field=error.field, remedy=error.remedy)
    if isinstance(error, SettingsError):
        return problem(503, error.message, field=error.subject, remedy=error.remedy)
    if isinstance(error, MissingError):
        return problem(404, error.message, field=error.subject, remedy=error.remedy)
    if isinstance(error, TemporaryError):
        return problem(503, error.message, retry_after=error.retry_after or 5, remedy=error.remedy)
    return problem(502, error.message, field=error.subject, remedy=error.remedy)


SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
"""The address of a request can carry the function key: no page may pass it on."""
