"""The HTTP seam of both data planes: the fine-tuning API and W&B.

One request, retried for seconds (the host retries for longer), its answer or one of our errors.
Redirects are never followed: a credential must not travel to a host that an answer names.
"""

import asyncio
import io
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from finetune_wandb.clients.translate import may_be_key, retry_after, unreachable
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
    ThrottledError,
    UnavailableError,
)

if TYPE_CHECKING:
    import aiohttp

ATTEMPTS = 4
_TOTAL_S = 20.0
_LONGEST_WAIT_S = 5.0
_CHUNK = 256 * 1024
_LARGE = 1024 * 1024
"""Larger bodies go to aiohttp as a stream, as it recommends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises UnavailableError for a broken or foreign body."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            import json
        try:
            # NaN, Infinity and huge integers: other JSON writers produce them, orjson refuses them.
            return _plain(json.loads(self.body))
        except (ValueError, RecursionError):
            raise UnavailableError("the answer is not JSON", code="NotJson") from None


def _plain(value: Any) -> Any:
    """Return the value without what cannot be written as JSON again."""
    if isinstance(value, dict):
        return {_plain(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return value


class Http:
    """Requests of one service, over the process's shared session."""

    def __init__(
        self,
        transport: Transport,
        service: str,
        explain: Callable[[Answer, str], AppError | None] = lambda answer, subject: None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """`explain` may return a better error for a failed answer than its status gives.

        `timeout_s` bounds each try of a request; None leaves the session's own limits.
        """
        self._transport = transport
        self._service = service
        self._explain = explain
        self._timeout_s = timeout_s

    async def request[T](
        self,
        method: str,
        url: str,
        read: Callable[[Answer], T],
        *,
        headers: Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]],
        body: bytes | Path | None = None,
        subject: str,
        repeat: bool = True,
    ) -> T:
        """Send a request and return what `read` makes of the answer. Temporary failures are retried
        unless `repeat` is off.

        A `body` that is a path is streamed from there. `headers` that are a function are called
        before each try: a credential may change. `read` runs inside the retries: if it raises a
        TemporaryError, the request is sent again. Raises our errors, with `subject`.
        """

        import aiohttp

        limits: dict[str, Any] = {}
        if self._timeout_s is not None:
            limits["timeout"] = aiohttp.ClientTimeout(total=self._timeout_s)

        async def once() -> T:
            current = await headers() if callable(headers) else headers
            options = {"data": _payload(body), **limits}
            async with self._open(method, url, current, subject, **options) as got:
                answer = Answer(got.status, got.headers, await got.read())
            self._transport.on_call(self._service, answer.status)
            if not 200 <= answer.status < 300:
                raise self._error(answer, subject)
            return read(answer)

        try:
            # Nearly every request succeeds at once; the retry machinery would be a third of
            # its cost (docs/performance.md).
            return await once()
        except TemporaryError as error:
            if not repeat:
                raise
            return await _again(once, error)

    async def stream(
        self, url: str, *, headers: Mapping[str, str], subject: str
    ) -> AsyncIterator[bytes]:
        """Yield the body of a GET as it comes. The caller retries a broken stream."""
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with self._open("GET", url, headers, subject, timeout=limits) as got:
            self._transport.on_call(self._service, got.status)
            if not 200 <= got.status < 300:
                raise self._error(Answer(got.status, got.headers, await got.read()), subject)
            last = b""
            async for chunk in got.content.iter_chunked(_CHUNK):
                last = chunk
                yield chunk
            is_chunked = "chunked" in got.headers.get("Transfer-Encoding", "").lower()
            says_its_end = is_chunked or "Content-Length" in got.headers
            if not says_its_end and not last.endswith(b"\n"):
                # A body that ends with its connection may have been cut: half a number is
                # another number.
                raise UnavailableError(
                    f"{self._service} ended its answer in the middle of a line",
                    subject=subject,
                    code="Cut",
                )

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: Mapping[str, str], subject: str, **options: Any
    ) -> AsyncIterator["aiohttp.ClientResponse"]:
        """Send a request for a block that reads its answer. Raises UnavailableError without one."""
        import aiohttp
        from yarl import URL

        try:
            async with self._transport.session().request(
                method,
                # Unchanged: a signature covers the path in this spelling.
                URL(url, encoded=True),
                headers=headers,
                # A presigned address may cover the headers and refuse an additional one.
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                **self._transport.by_proxy(url),
                **options,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._transport.on_call(self._service, 0)
            # The error holds the request with its credentials, so it is not chained.
            raise unreachable(error, subject, self._service) from None

    def _error(self, answer: Answer, subject: str) -> AppError:
        return self._explain(answer, subject) or error_for(answer, self._service, subject)


def _payload(body: bytes | Path | None) -> Any:
    if isinstance(body, Path):
        return body.open("rb")  # closed by aiohttp with the request
    return io.BytesIO(body) if body and len(body) > _LARGE else body


async def _again[T](once: Callable[[], Awaitable[T]], error: TemporaryError) -> T:
    """Try again as the error allows; the try that failed already counts as the first."""
    import stamina

    failed = [error]

    async def attempt() -> T:
        if failed:
            raise failed.pop()
        return await once()

    retries = stamina.AsyncRetryingCaller(
        attempts=ATTEMPTS, timeout=_TOTAL_S, wait_initial=0.2, wait_max=3.0
    )
    return await retries(_wait_before_retry, attempt)


def error_for(answer: Answer, service: str, subject: str) -> AppError:
    """Return our error for an answer that is not a success."""
    status, pause = answer.status, retry_after(answer.headers)
    code = error_code(answer) or str(status)
    text = f"{service} answered {status} ({code})"
    if status in (408, 429):
        return ThrottledError(text, subject=subject, code=code, retry_after=pause)
    if status >= 500:
        return UnavailableError(text, subject=subject, code=code, retry_after=pause)
    if status in (401, 403):
        return DeniedError(text, subject=subject, code=str(status))
    if status in (404, 410):
        return MissingError(text, subject=subject, code=code)
    if 300 <= status < 400:
        return RejectedError(f"{service} redirects; not followed", subject=subject, code="Redirect")
    return RejectedError(text, subject=subject, code=code)


def error_code(answer: Answer) -> str:
    """Return the error code in an answer, short and printable; empty without one."""
    code = answer.headers.get("x-ms-error-code")
    if code is None:
        try:
            body = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return ""
        error = (body.get("error") or body.get("odata.error")) if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, str) or not code.replace("_", "").isalnum() or may_be_key(code):
        return ""
    return code[:60]


def _wait_before_retry(error: Exception) -> bool | float:
    """Return whether to retry, and after how many seconds."""
    if not isinstance(error, TemporaryError) or isinstance(error, ConflictError):
        return False
    if error.retry_after is None:
        return True
    # Longer pauses are left to the host's queue.
    return error.retry_after if error.retry_after <= _LONGEST_WAIT_S else False
