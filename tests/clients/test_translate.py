"""Every error class of the Azure SDKs becomes one of ours, with its code and its pause."""

import email.utils
import importlib
import inspect
import time
from typing import Any

import pytest
from azure.core import exceptions
from azure.core.exceptions import AzureError, HttpResponseError

from finetune_wandb.clients.translate import parse_retry_after, translate, translated
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    NotReadyError,
    PermanentError,
    RejectedError,
    TemporaryError,
    ThrottledError,
    UnavailableError,
)

MODULES = (
    "azure.core.exceptions",
    "azure.core.polling.base_polling",
    "azure.identity",
    "azure.identity._exceptions",
    "azure.keyvault.secrets",
    "azure.mgmt.core.exceptions",
    "azure.eventgrid",
)


def error_classes() -> list[type[Exception]]:
    """Return every exception class that the SDKs we use define and can raise from a call."""
    bases = (AzureError, exceptions.SerializationError, exceptions.DeserializationError)
    found = {
        item
        for module in MODULES
        for _, item in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(item, bases)
    }
    return sorted(found, key=lambda item: item.__name__)


class Response:
    """As much of an answer as the SDK's errors look at."""

    def __init__(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.reason = "Reason"
        self.headers = headers or {}
        self.request = None
        self._body = body

    def text(self, encoding: str | None = None) -> str:
        return self._body


def http_error(status: int, body: str = "", **headers: str) -> HttpResponseError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponseError(response=Response(status, body, named))


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_error_is_ours_when_the_sdk_raises_it(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "secret text of an answer")
    for name in ("status_code", "response", "error", "reason"):
        setattr(error, name, None)
    ours = translate(error, "id", "Azure")
    assert type(ours).__module__ == "finetune_wandb.model.errors"
    assert isinstance(ours, TemporaryError | PermanentError)
    assert ours.subject == "id"
    assert "secret text" not in str(ours)


def test_walk_finds_the_classes_that_matter() -> None:
    names = {kind.__name__ for kind in error_classes()}
    assert {"ServiceRequestError", "CredentialUnavailableError", "ODataV4Error"} <= names
    assert len(names) >= 20


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (304, ConflictError),
        (302, RejectedError),
        (400, RejectedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, UnavailableError),
        (405, RejectedError),
        (408, UnavailableError),
        (409, ConflictError),
        (412, ConflictError),
        (423, ConflictError),
        (429, ThrottledError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
        (200, UnavailableError),
    ],
)
def test_status_decides(status: int, expected: type[AppError]) -> None:
    assert type(translate(http_error(status), "id", "Azure")) is expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "PrincipalNotFound", NotReadyError),
        (409, "ScopeLocked", RejectedError),
        (409, "ReadOnlyDisabledSubscription", RejectedError),
        (403, "RequestDisallowedByPolicy", RejectedError),
        (400, "RequestDisallowedByPolicy", RejectedError),
        (403, "LinkedAuthorizationFailed", RejectedError),
        (403, "AuthorizationFailed", DeniedError),
        (404, "ResourceNotFound", MissingError),
        (404, "ResourceGroupNotFound", MissingError),
        (404, "SecretNotFound", MissingError),
        (404, "SubscriptionNotFound", RejectedError),
        (404, "InvalidResourceType", RejectedError),
        (409, "MissingSubscriptionRegistration", RejectedError),
        (409, "RoleAssignmentLimitExceeded", RejectedError),
        (403, "QuotaExceeded", RejectedError),
        (429, "QuotaExceeded", ThrottledError),
        (409, "Conflict", ConflictError),
        (200, "OperationFailed", RejectedError),
    ],
)
def test_code_decides_where_the_status_does_not(
    status: int, code: str, expected: type[AppError]
) -> None:
    body = f'{{"error": {{"code": "{code}", "message": "private text"}}}}'
    ours = translate(http_error(status, body), "id", "Azure")
    assert type(ours) is expected
    assert ours.code == code
    assert "private text" not in str(ours)


def test_inner_code_is_told_when_key_vault_refuses() -> None:
    body = '{"error": {"code": "Forbidden", "message": "m", "innererror": {"code": "ForbiddenByRbac"}}}'
    assert translate(http_error(403, body), "id", "Key Vault").code == "ForbiddenByRbac"


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", "null", '{"error": null}', '{"error": "text"}', '{"error": {"code": {}}}'],
)
def test_odd_bodies_give_no_code(body: str) -> None:
    ours = translate(http_error(403, body), "id", "Azure")
    assert isinstance(ours, DeniedError)
    assert len(ours.code) <= 100


@pytest.mark.parametrize("key", ["wandb_v1_" + "k" * 60, "0af3" * 10, "local-" + "0af3" * 10])
def test_code_that_repeats_a_key_is_none(key: str) -> None:
    body = f'{{"error": {{"code": "{key}", "message": "m"}}}}'
    assert key not in repr(translate(http_error(400, body), "id", "Key Vault"))
    assert translate(http_error(400, body), "id", "Key Vault").code in ("", "400")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "17"}, 17.0),
        ({"retry_after_ms": "250"}, 0.25),
        ({"x_ms_retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_pause_is_kept(headers: dict[str, str], seconds: float | None) -> None:
    ours = translate(http_error(429, **headers), "id", "Azure")
    assert isinstance(ours, TemporaryError)
    assert ours.retry_after == seconds


def test_pause_may_be_a_date() -> None:
    text = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert parse_retry_after(text) == pytest.approx(60, abs=2)
    assert parse_retry_after(email.utils.formatdate(0, usegmt=True)) == 0.0
    assert parse_retry_after("nan") is None


def test_cause_is_chained_and_own_errors_pass_through() -> None:
    broken: Any = exceptions.ServiceRequestError("no route")
    with pytest.raises(UnavailableError) as caught, translated("id", "Azure"):
        raise broken
    assert caught.value.__cause__ is broken
    with pytest.raises(MissingError), translated("id", "Azure"):
        raise MissingError("ours already")
    with pytest.raises(UnavailableError), translated("id", "Azure"):
        raise TimeoutError
