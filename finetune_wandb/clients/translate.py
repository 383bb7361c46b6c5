"""Maps every error of the Azure SDKs, and every missing answer, to one of ours; no SDK type leaves
`clients/`.

Decides by class, then by the service's own code, then by status. Messages carry status and code,
not the answer's text: that may hold personal data.
"""

import email.utils
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    NotReadyError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)

_KEY = re.compile(r"(?=\w*\d)\w{40}")
"""A long word with a digit, which no error code is."""

_REFUSED = frozenset(
    {
        "ScopeLocked",
        "ReadOnlyDisabledSubscription",
        "RequestDisallowedByPolicy",
        "LinkedAuthorizationFailed",
        "LinkedAccessCheckFailed",
        "SubscriptionNotFound",
        "SubscriptionNotRegistered",
        "MissingSubscriptionRegistration",
    }
)
"""Refusals whose status is misleading: a lock, a policy, a right on another resource, a
subscription. Neither another role of the app nor waiting resolves them."""
_LIMITS = ("LimitExceeded", "QuotaExceeded")
"""Endings of codes for a limit that is reached: role assignments, tags, accounts."""
_GONE = frozenset({"ResourceNotFound", "ResourceGroupNotFound", "SecretNotFound"})
"""The only codes of a 404 that say that the resource itself does not exist."""


@contextmanager
def translated(subject: str, service: str) -> Iterator[None]:
    """Turn the errors of an answer inside the block into ours. `subject` is the id of the request.

    An answer with status 200 in another shape than the service's, such as a proxy's, or one that
    the SDK cannot parse, proves nothing and counts as temporary.
    """
    from azure.core.exceptions import AzureError, DeserializationError, SerializationError

    try:
        yield
    except (AzureError, DeserializationError, SerializationError, TimeoutError) as error:
        raise translate(error, subject, service) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Its text may repeat part of the answer.
        raise UnavailableError(
            f"{service}'s answer cannot be read", subject=subject, code=type(error).__name__
        ) from None


def translate(error: Exception, subject: str, service: str) -> AppError:
    """Return our error for one of the SDKs'. Unknown errors count as temporary."""
    from azure.core.exceptions import HttpResponseError, SerializationError, TooManyRedirectsError

    if isinstance(error, SerializationError | TooManyRedirectsError):
        return RejectedError(
            f"{service}: {type(error).__name__}", subject=subject, code=type(error).__name__
        )
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{service} did not answer in time", subject=subject)
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        # No connection, a broken answer, or no token.
        return unreachable(error, subject, service)
    status, code = error.status_code, error_code(error)
    message = f"{service} answered {status} {code}".rstrip()
    pause = retry_after(getattr(error.response, "headers", None) or {})
    if code == "PrincipalNotFound":  # the directory does not know a new identity yet
        return NotReadyError(message, subject=subject, code=code, retry_after=pause)
    if code in _REFUSED or (status != 429 and code.endswith(_LIMITS)):
        return RejectedError(message, subject=subject, code=code)
    if code in _GONE:
        return MissingError(message, subject=subject, code=code)
    if status in (401, 403):
        return DeniedError(message, subject=subject, code=code)
    if status == 404 and not code:
        # Written by a proxy on the way: it says nothing about the resource.
        return UnavailableError(message, subject=subject, code="404", retry_after=pause)
    if status == 429:
        return ThrottledError(message, subject=subject, code=code, retry_after=pause)
    if status in (304, 409, 412, 423):
        return ConflictError(message, subject=subject, code=code, retry_after=pause)
    if status in (408, 425) or status >= 500:
        return UnavailableError(message, subject=subject, code=code, retry_after=pause)
    if status < 300 and not code:
        # The answer began as a success and could not be read to its end.
        return UnavailableError(message, subject=subject)
    return RejectedError(message, subject=subject, code=code)


def unreachable(error: BaseException, subject: str, service: str) -> UnavailableError:
    """Return our error for a request that brought no answer.

    The cause of an SDK's error decides. Texts of foreign errors are not repeated: they can hold
    addresses with passwords.
    """
    import aiohttp

    inner = getattr(error, "inner_exception", None) or error
    code, text = "Unreachable", f"{service} did not answer ({type(error).__name__})"
    remedy = f"retried automatically; if this persists, check that the app can reach {service}"
    if isinstance(inner, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        code, text = "Certificate", f"the certificate shown for {service} is not trusted"
        remedy = (
            "where a proxy of your network opens TLS, set SSL_CERT_FILE to a PEM file that holds"
            " its certificate authority beside the public ones"
        )
    elif isinstance(inner, aiohttp.ClientHttpProxyError):
        code, text = "Proxy", f"the proxy refused the way to {service} ({inner.status})"
        remedy = f"let the proxy of HTTPS_PROXY pass {service}, or name its host in NO_PROXY"
        if inner.status == 407:
            remedy = "check user and password in HTTPS_PROXY"
    elif isinstance(inner, aiohttp.ClientProxyConnectionError):
        code, text = "Proxy", f"the proxy on the way to {service} does not answer"
        remedy = "check HTTPS_PROXY and HTTP_PROXY, or name the service's host in NO_PROXY"
    return UnavailableError(text, subject=subject, code=code, remedy=remedy)


def error_code(error: Any) -> str:
    """Return the most precise code that the service gave, empty when it gave none.

    Key Vault puts the reason of a 403 into an inner error.
    """
    body = getattr(error, "error", None)
    inner = getattr(body, "innererror", None)
    code = inner.get("code") if isinstance(inner, dict) else None
    headers = getattr(error.response, "headers", None) or {}
    code = code or getattr(body, "code", None) or headers.get("x-ms-error-code")
    text = text_of(code)
    # Anything longer than a code is not one.
    return text if len(text) <= 100 and not may_be_key(text) else ""


def may_be_key(text: str) -> bool:
    """Return whether text may repeat the key that a request carried: codes are in tables."""
    return bool(_KEY.search(text))


def text_of(value: Any) -> str:
    """Return an SDK's text or enumeration as text, empty for None."""
    return str(getattr(value, "value", value) or "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause in seconds that a service asks for, None where it asks for none."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (text := headers.get(name)) and _is_number(text):
            return max(0.0, float(text) / 1000)
    return parse_retry_after(headers.get("retry-after") or "")


def parse_retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After header means: a number, or a date."""
    if _is_number(text):
        return max(0.0, float(text))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _is_number(text: str) -> bool:
    try:
        return float(text) < float("inf")
    except ValueError:
        return False
