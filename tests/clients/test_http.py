"""The HTTP seam: what is tried again, what becomes of an answer, and what never leaves."""

import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from finetune_wandb.clients.http import ATTEMPTS, Answer, Http, error_for
from finetune_wandb.clients.translate import retry_after
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from tests.clients.http_stage import answering

KEY_AS_CODE = b'{"error": {"code": "wandb_v1_' + b"k" * 60 + b'"}}'
CREDENTIAL = "Bearer sk-very-secret-token-0123456789"
OK = (200, {}, b'{"a": 1}')


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport()
    yield made
    await made.close()


async def ask(transport: Transport, url: str, **more: Any) -> Any:
    given: dict[str, Any] = {"headers": {"Authorization": CREDENTIAL}, "subject": "thing-1"}
    method = more.pop("method", "GET")
    return await Http(transport, "the service").request(
        method, url, Answer.json, **{**given, **more}
    )


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([(503, {}, b"")] * 2 + [OK], 3),
        ([(429, {"Retry-After": "0"}, b""), OK], 2),
        ([(408, {}, b""), OK], 2),
        ([None, OK], 2),
        ([(200, {}, b"<html>"), OK], 2),
        ([(500, {"retry-after-ms": "10"}, b""), OK], 2),
    ],
    ids=["503", "429", "408", "hung up", "broken body", "milliseconds"],
)
async def test_answer_comes_when_the_service_recovers(
    transport: Transport, answers: list[Any], tries: int
) -> None:
    async with answering(*answers) as server:
        body = b'{"x": 1}'
        assert await ask(transport, server.url, method="POST", body=body) == {"a": 1}
        assert [seen[3] for seen in server.seen] == [body] * tries
        assert all(seen[2]["authorization"] == CREDENTIAL for seen in server.seen)


@pytest.mark.parametrize(
    ("answer", "error", "code", "tries"),
    [
        ((400, {}, b'{"error": {"code": "BadThing"}}'), RejectedError, "BadThing", 1),
        ((401, {}, b""), DeniedError, "401", 1),
        ((403, {}, b'{"error": {"code": "x"}}'), DeniedError, "403", 1),
        ((404, {}, b""), MissingError, "404", 1),
        ((410, {}, b""), MissingError, "410", 1),
        ((422, {}, b"[]"), RejectedError, "422", 1),
        ((302, {"Location": "http://127.0.0.1:1/steal"}, b""), RejectedError, "Redirect", 1),
        ((429, {"Retry-After": "60"}, b""), ThrottledError, "429", 1),
        ((500, {}, b"oops"), UnavailableError, "500", ATTEMPTS),
        ((200, {}, b"not json"), UnavailableError, "NotJson", ATTEMPTS),
        (None, UnavailableError, "Unreachable", ATTEMPTS),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_our_error_is_raised_when_the_service_does_not_give_in(
    transport: Transport, answer: Any, error: type[AppError], code: str, tries: int
) -> None:
    async with answering(answer) as server:
        with pytest.raises(error) as caught:
            await ask(transport, server.url)
        # aiohttp itself asks once more where a kept connection was closed.
        assert len(server.seen) == tries or (answer is None and len(server.seen) == 2 * tries)
    assert caught.value.code == code
    if code != "NotJson":
        assert caught.value.subject == "thing-1"


async def test_unreachable_is_said_when_nobody_listens(transport: Transport) -> None:
    async with answering(OK) as server:
        pass
    with pytest.raises(UnavailableError) as caught:
        await ask(transport, server.url)
    assert caught.value.code == "Unreachable"


@pytest.mark.parametrize(
    "answer",
    [
        (400, {}, b'{"error": {"code": "' + CREDENTIAL.encode() + b'"}}'),
        (500, {"X": CREDENTIAL}, CREDENTIAL.encode()),
        (302, {"Location": f"http://x/{CREDENTIAL[7:]}"}, b""),
        None,
        (200, {}, CREDENTIAL.encode()),
    ],
    ids=["echoed code", "echoed body", "redirect", "hung up", "no json"],
)
async def test_credential_is_nowhere_when_a_request_fails(
    transport: Transport, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = CREDENTIAL[7:]
    async with answering(answer) as server:
        with pytest.raises(AppError) as caught:
            await ask(transport, f"{server.url}/path")
    error = caught.value
    text = "".join(traceback.format_exception(error))
    seen = text + repr(error) + error.message + error.code + error.remedy + caplog.text
    assert secret not in seen
    assert "Authorization" not in seen


async def test_credential_is_asked_for_again_when_a_request_is_repeated(
    transport: Transport,
) -> None:
    """A key can be replaced while a request is being tried again."""
    keys = iter(("old", "new"))

    async def headers() -> dict[str, str]:
        return {"Authorization": next(keys)}

    async with answering((503, {}, b""), OK) as server:
        await ask(transport, server.url, headers=headers)
        assert [seen[2]["authorization"] for seen in server.seen] == ["old", "new"]


async def test_stream_comes_in_pieces_when_it_is_long(transport: Transport) -> None:
    http = Http(transport, "the service")
    async with answering((200, {}, b"x" * 1_000_000)) as server:
        chunks = [chunk async for chunk in http.stream(server.url, headers={}, subject="f")]
    assert sum(map(len, chunks)) == 1_000_000
    assert len(chunks) > 1
    async with answering((404, {}, b"")) as server:
        with pytest.raises(MissingError):
            async for _ in http.stream(server.url, headers={}, subject="f"):
                pass


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "²"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "nan"}, None),
    ],
    ids=str,
)
def test_pause_is_understood_when_a_header_names_it(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"error": 5}',
        b'{"error": {"code": 5}}',
        b'{"error": {"code": "<b>"}}',
        b"\xff",
        KEY_AS_CODE,
    ],
)
def test_status_stands_for_the_code_when_the_body_names_none(body: bytes) -> None:
    assert error_for(Answer(418, {}, body), "s", "x").code == "418"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": NaN, "b": Infinity}', {"b": float("inf")}),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890.0}),
        (b'{"a": 1' + b"0" * 400 + b"}", {"a": float("inf")}),
        (rb'{"\ud800": ["\udc00x"]}', {"?": ["?x"]}),
    ],
    ids=["not finite", "huge", "beyond floats", "half pairs"],
)
def test_body_can_be_written_again_when_its_json_is_lenient(
    text: bytes, expected: dict[str, Any]
) -> None:
    found = Answer(200, {}, text).json()
    orjson.dumps(found)
    assert {name: found[name] for name in expected} == expected


def test_body_is_refused_when_it_is_nested_without_end() -> None:
    with pytest.raises(UnavailableError):
        Answer(200, {}, b"[" * 200_000).json()
