"""Why the fine-tuning API lets the app in or not: a role, an audience, a firewall, a token."""

import json
from collections.abc import AsyncIterator

import pytest

from finetune_wandb.clients.azure.jobs import Jobs, RecordedJobs
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import AppError, DeniedError, NotReadyError, RejectedError
from tests.clients.http_stage import answering
from tests.fakes import FakeAudit, relay_account

COGNITIVE = "https://cognitiveservices.azure.com/.default"
FOUNDRY = "https://ai.azure.com/.default"
ACCOUNT = relay_account(endpoint="https://a.services.ai.azure.com")
EMPTY = (200, {}, b'{"data": [], "has_more": false}')
AUDIENCE = (
    401,
    {},
    b'{"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is'
    b' incorrect (https://cognitiveservices.azure.com), or have expired."}',
)


def refusal(status: int, code: str, text: str) -> tuple[int, dict[str, str], bytes]:
    return status, {}, json.dumps({"error": {"code": code, "message": text}}).encode()


class Scoped(Transport):
    """Its tokens are the names of their scopes."""

    async def token(self, scope: str) -> str:
        return scope


@pytest.fixture
async def urls() -> AsyncIterator[list[Transport]]:
    made: list[Transport] = []
    yield made
    for transport in made:
        await transport.close()


def jobs(url: str, urls: list[Transport]) -> Jobs:
    urls.append(Scoped(url))
    return Jobs(urls[-1], COGNITIVE)


@pytest.mark.parametrize(
    ("answer", "error", "code", "remedy"),
    [
        (
            refusal(
                401,
                "PermissionDenied",
                "Principal does not have access to API/Operation.",
            ),
            NotReadyError,
            "PermissionDenied",
            "Cognitive Services OpenAI User",
        ),
        (
            refusal(
                401,
                "PermissionDenied",
                "The principal lacks the required data action"
                " Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/read",
            ),
            NotReadyError,
            "PermissionDenied",
            "Cognitive Services OpenAI User",
        ),
        (
            refusal(403, "AccessDenied", "Access denied due to Virtual Network/Firewall rules."),
            DeniedError,
            "403",
            "firewall",
        ),
        (
            refusal(401, "401", "Access denied due to invalid key."),
            DeniedError,
            "token",
            "subdomain",
        ),
    ],
    ids=["role", "data action", "firewall", "token"],
)
async def test_cause_is_named_when_the_app_is_not_let_in(
    urls: list[Transport],
    answer: tuple[int, dict[str, str], bytes],
    error: type[AppError],
    code: str,
    remedy: str,
) -> None:
    async with answering(answer) as server:
        with pytest.raises(error) as caught:
            await jobs(server.url, urls).list_jobs(ACCOUNT, None, 1)
    assert (caught.value.code, len(server.seen)) == (code, 1)
    assert remedy in caught.value.remedy


async def test_other_scope_is_kept_when_the_first_one_has_the_wrong_audience(
    urls: list[Transport],
) -> None:
    async with answering(AUDIENCE, EMPTY) as server:
        port = jobs(server.url, urls)
        await port.list_jobs(ACCOUNT, None, 1)
        await port.list_jobs(ACCOUNT, None, 1)
        await port.list_jobs(relay_account("b", endpoint="https://b.openai.azure.com"), None, 1)
    sent = [headers["authorization"].removeprefix("Bearer ") for _, _, headers, _ in server.seen]
    assert sent == [COGNITIVE, FOUNDRY, FOUNDRY, COGNITIVE]


async def test_setting_is_named_when_neither_audience_is_right(urls: list[Transport]) -> None:
    async with answering(AUDIENCE) as server:
        with pytest.raises(DeniedError) as caught:
            await jobs(server.url, urls).list_jobs(ACCOUNT, None, 1)
    assert caught.value.code == "audience"
    assert "OPENAI_TOKEN_SCOPE" in caught.value.remedy
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", ["cancelled", "succeeded"])
async def test_cancel_is_a_no_op_when_the_job_is_over(urls: list[Transport], status: str) -> None:
    job = (200, {}, json.dumps({"id": "j", "status": status}).encode())
    async with answering(refusal(400, "invalid", "over"), job) as server:
        await jobs(server.url, urls).cancel_job(ACCOUNT, "j")
    assert [method for method, _, _, _ in server.seen] == ["POST", "GET"]


async def test_cancel_fails_when_azure_refuses_and_the_job_goes_on(urls: list[Transport]) -> None:
    job = (200, {}, b'{"id": "j", "status": "running"}')
    async with answering(refusal(400, "invalid", "not now"), job) as server:
        with pytest.raises(RejectedError):
            await jobs(server.url, urls).cancel_job(ACCOUNT, "j")


async def test_cancel_is_in_the_audit_and_what_is_refused_again_is_there_once(
    urls: list[Transport],
) -> None:
    audit = FakeAudit()
    job = (200, {}, b'{"id": "j", "status": "running"}')
    refused = (refusal(400, "invalid", "not now"), job)
    async with answering(*refused, *refused, (200, {}, b'{"id": "j"}')) as server:
        urls.append(Scoped(server.url))
        port = RecordedJobs(urls[-1], COGNITIVE, audit)
        for _ in range(2):
            with pytest.raises(RejectedError):
                await port.cancel_job(ACCOUNT, "j")
            (entry,) = audit.entries
            assert (entry.action, entry.outcome, entry.code) == ("cancel_job", "failed", "invalid")
            assert (entry.subject, entry.detail) == (str(ACCOUNT.id), {"job": "j"})
        await port.cancel_job(ACCOUNT, "j")
    assert [one.outcome for one in audit.entries] == ["done"]
