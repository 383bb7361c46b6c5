"""HTTP answers: JSON, and one shape for every refusal (RFC 9457 problem details)."""

from collections.abc import Mapping
from typing import Any

import azure.functions as func
import orjson

from model.errors import AppError, MissingError, NoticeError, SettingsError, TemporaryError


def json_answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> func.HttpResponse:
    return func.HttpResponse(
        orjson.dumps(body),
        status_code=status,
        mimetype="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def problem(
    status: int, title: str, *, field: str = "", detail: str = "", retry_after: float | None = None
) -> func.HttpResponse:
    """Return a refusal: `field` names what is wrong, `detail` what to do about it."""
    body = {"type": "about:blank", "title": title, "status": status}
    if field:
        body["field"] = field
    if detail:
        body["detail"] = detail
    headers = {} if retry_after is None else {"Retry-After": str(max(int(retry_after), 1))}
    return func.HttpResponse(
        orjson.dumps(body),
        status_code=status,
        mimetype="application/problem+json",
        headers={"Cache-Control": "no-store", **headers},
    )


def answer_for(error: AppError) -> func.HttpResponse:
    """Return the refusal that an error of ours means."""
    if isinstance(error, NoticeError):
        return problem(400, error.message, field=error.subject, detail=error.remedy)
    if isinstance(error, SettingsError):
        return problem(503, error.message, field=error.subject, detail=error.remedy)
    if isinstance(error, MissingError):
        return problem(404, error.message, field=error.subject, detail=error.remedy)
    if isinstance(error, TemporaryError):
        return problem(503, error.message, retry_after=error.retry_after or 5, detail=error.remedy)
    return problem(502, error.message, field=error.subject, detail=error.remedy)
