"""What W&B's answers mean: one error, code and remedy for each, and the key goes nowhere else."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.api import WandbApi
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.secret import Secret
from tests.clients.http_stage import answering

VALUE = "k" * 40
HTML = b"<html>default backend - 404, entity not found</html>"


class Calls:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __call__(self, service: str, status: int) -> None:
        self.seen.append((service, status))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
async def transport(calls: Calls) -> AsyncIterator[Transport]:
    made = Transport(on_call=calls)
    yield made
    await made.close()


async def key() -> Secret:
    return Secret(VALUE)


def said(text: str) -> bytes:
    return json.dumps({"errors": [{"message": text}], "data": None}).encode()


async def asked(transport: Transport, url: str, **more: Any) -> dict[str, Any]:
    return await WandbApi(transport, url, **more).ask("{ viewer }", {}, key=key, subject="s")


async def posted(transport: Transport, url: str) -> None:
    await WandbApi(transport, url).stream("e/p/r", b"{}", lambda _: None, key=key, subject="s")


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (401, b"", DeniedError, "401"),
        (401, said("organization not found"), DeniedError, "401"),
        (200, said("user is not logged in"), DeniedError, "401"),
        (403, said("permission denied"), DeniedError, "403"),
        (200, said("permission denied"), DeniedError, "403"),
        (403, HTML, DeniedError, "blocked"),
        (404, said("entity acme not found during upsertBucket"), RejectedError, "entity"),
        (404, said("project not found"), RejectedError, "project"),
        (404, said("project x not found in entity acme"), RejectedError, "project"),
        (404, said("run e/p/r not found"), MissingError, "run"),
        (200, said("api key not found"), RejectedError, "missing"),
        (404, HTML, UnavailableError, "404"),
        (
            409,
            said("run r was previously created and deleted; try a new name"),
            RejectedError,
            "deleted",
        ),
        (409, said("a deleted artifact conflicts"), UnavailableError, "409"),
        (410, b"{}", RejectedError, "410"),
        (400, said("group is too long"), RejectedError, "400"),
        (402, b"{}", RejectedError, "402"),
        (413, HTML, RejectedError, "413"),
        (422, b"{}", RejectedError, "422"),
        (200, said("something else"), RejectedError, "graphql"),
        (302, b"", UnavailableError, "Redirect"),
        (200, b"{}", UnavailableError, "NotJson"),
        (200, b"[]", UnavailableError, "NotJson"),
        (200, HTML, UnavailableError, "NotJson"),
        (500, said("entity acme not found"), UnavailableError, "500"),
        (503, HTML, UnavailableError, "503"),
    ],
)
async def test_error_says_what_the_answer_means(
    transport: Transport, status: int, body: bytes, error: type[AppError], code: str
) -> None:
    async with answering((status, {}, body)) as server:
        with pytest.raises(error) as caught:
            await asked(transport, server.url, repeat=False)
    assert (type(caught.value), caught.value.code) == (error, code)
    assert caught.value.remedy or not isinstance(caught.value, RejectedError) or code == "missing"


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (404, b"default backend - 404", MissingError, "run"),
        (404, said("run not found"), MissingError, "run"),
        (403, said("permission denied"), DeniedError, "run"),
        (401, b"", DeniedError, "401"),
        (409, b"", UnavailableError, "409"),
        (413, b"", RejectedError, "413"),
        (410, b"", RejectedError, "410"),
    ],
)
async def test_run_is_named_when_its_rows_are_not_taken(
    transport: Transport, status: int, body: bytes, error: type[AppError], code: str
) -> None:
    async with answering((status, {}, body)) as server:
        with pytest.raises(error) as caught:
            await posted(transport, server.url)
    assert (type(caught.value), caught.value.code) == (error, code)


@pytest.mark.parametrize("name", ["Retry-After", "RateLimit-Reset"])
async def test_pause_is_kept_when_w_and_b_limits_the_rate(transport: Transport, name: str) -> None:
    for status, body in ((429, b""), (404, said("rate limit exceeded"))):
        async with answering((status, {name: "70"}, body)) as server:
            with pytest.raises(ThrottledError) as caught:
                await asked(transport, server.url)
        assert caught.value.retry_after == 70
        assert len(server.seen) == 1


async def test_request_is_sent_again_when_w_and_b_stumbles_unless_it_must_not(
    transport: Transport, calls: Calls
) -> None:
    good = (200, {}, b'{"data": {"viewer": 1}}')
    async with answering((502, {}, b""), good) as server:
        assert await asked(transport, server.url) == {"viewer": 1}
    assert calls.seen == [("W&B", 502), ("W&B", 200)]
    async with answering((502, {}, b""), good) as server:
        with pytest.raises(UnavailableError):
            await asked(transport, server.url, repeat=False)
    assert len(server.seen) == 1


async def test_key_travels_in_its_header_alone(transport: Transport) -> None:
    async with answering(None) as server:
        with pytest.raises(UnavailableError) as caught:
            await asked(transport, server.url)
    error = caught.value
    assert VALUE not in repr(error) + str(error) + repr(error.__context__) + repr(error.__cause__)
    assert error.__cause__ is None
    method, path, headers, body = server.seen[0]
    assert (method, path) == ("POST", "/graphql")
    assert headers["authorization"].startswith("Basic ")
    assert VALUE.encode() not in body
