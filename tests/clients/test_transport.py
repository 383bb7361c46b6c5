"""The seam: where requests go, which credential they carry, and errors of getting one."""

from typing import Any

import pytest

from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.transport import SANDBOX_PRINCIPAL, Transport
from finetune_wandb.model.errors import RejectedError, UnavailableError
from tests.fakes import relay_account

SCOPE = "https://cognitiveservices.azure.com/.default"


def test_address_stays_as_it_is_when_there_is_no_sandbox() -> None:
    url = "https://a.openai.azure.com/openai/v1/x?y=1"
    assert Transport().url(url) == url
    sandboxed = Transport("http://127.0.0.1:9").url(url)
    assert sandboxed == "http://127.0.0.1:9/_host/a.openai.azure.com/openai/v1/x?y=1"


async def test_token_is_asked_for_once_when_many_requests_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = Transport("http://127.0.0.1:9")
    first = await transport.token(SCOPE)
    assert await transport.token(SCOPE) == first
    assert await transport.principal_id() == SANDBOX_PRINCIPAL
    await transport.close()


async def test_our_error_is_raised_when_no_token_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An app without an identity must not stop a whole tick with an SDK's error."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    transport = Transport(client_id="11111111-1111-4111-8111-111111111111")
    with pytest.raises(UnavailableError) as caught:
        await transport.token(SCOPE)
    assert "Microsoft Entra" in caught.value.message
    await transport.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.com",
        "https://openai.azure.com.evil.com",
        "https://evil.com/.openai.azure.com",
        "https://evil.com#.openai.azure.com",
        "https://evil.com?.openai.azure.com",
        "https://evilopenai.azure.com",
        "http://a.openai.azure.com",
        "",
        "a.openai.azure.com",
        "https://a.openai.azure.com@evil.com",
        "https://evil.com\\.openai.azure.com",
    ],
)
async def test_token_goes_nowhere_when_an_endpoint_is_not_azures(endpoint: str) -> None:
    asked: list[Any] = []

    class Watched(Transport):
        async def token(self, scope: str) -> str:
            return "t"

        def session(self) -> Any:
            asked.append("session")
            return super().session()

    transport = Watched()
    with pytest.raises(RejectedError) as caught:
        await Jobs(transport, SCOPE).list_jobs(relay_account(endpoint=endpoint), None, 1)
    assert caught.value.code == "endpoint"
    assert asked == []
    await transport.close()


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://a.openai.azure.com", "a.openai.azure.com"),
        ("https://A.OpenAI.Azure.COM/", "a.openai.azure.com"),
        ("https://user@a.openai.azure.com:8443/x", "a.openai.azure.com"),
        ("https://a.cognitiveservices.azure.us", "a.cognitiveservices.azure.us"),
    ],
)
async def test_request_goes_to_the_host_alone_when_an_endpoint_says_more(
    endpoint: str, host: str
) -> None:
    from tests.clients.http_stage import answering

    async with answering((200, {}, b'{"data": [], "has_more": false}')) as server:
        transport = Transport(server.url)
        await Jobs(transport, SCOPE).list_jobs(relay_account(endpoint=endpoint), None, 1)
        assert server.seen[0][1] == f"/_host/{host}/openai/v1/fine_tuning/jobs?limit=1"
        await transport.close()
