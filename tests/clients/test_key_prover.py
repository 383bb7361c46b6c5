"""Proving keys over real HTTP: a clear yes, a clear no, and everything that says neither."""

import json
import logging

import pytest

from clients.key_prover import KeyProver
from clients.transport import Transport
from model.errors import RejectedError, TemporaryError, ThrottledError, UnavailableError
from model.secret import Secret
from tests.clients.azure_stage import KEY, fault, requests
from tests.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
def prover(sandbox: Client, transport: Transport) -> KeyProver:
    return KeyProver(transport, sandbox.process.wandb_url, timeout_s=0.5)


async def register(sandbox: Client, **more: object) -> None:
    await sandbox.control("PUT", "wandb/keys", {"key": KEY} | more)


async def test_owner_is_told_when_the_key_is_good(sandbox: Client, prover: KeyProver) -> None:
    await register(sandbox, entity="team-a", teams=["team-a", "team-b"])
    owner = await prover.prove(Secret(KEY))
    assert owner.entity == "team-a"
    assert set(owner.entities) >= {"team-a", "team-b"}


async def test_rejected_is_raised_when_the_key_is_revoked(
    sandbox: Client, prover: KeyProver
) -> None:
    await register(sandbox, entity="team-a", state="revoked")
    with pytest.raises(RejectedError):
        await prover.prove(Secret(KEY))


async def test_rejected_is_raised_when_w_and_b_knows_no_viewer(
    sandbox: Client, prover: KeyProver
) -> None:
    await fault(sandbox, "wandb", {"status": 200, "body": {"data": {"viewer": None}}}, times=1)
    with pytest.raises(RejectedError):
        await prover.prove(Secret(KEY))


@pytest.mark.parametrize(
    "action",
    [
        {"status": 500},
        {"status": 503, "headers": {"Retry-After": "1"}},
        {"status": 404},
        {"status": 403, "body": "<html>a proxy says no</html>"},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:9/elsewhere"}},
        {"status": 200, "body": "<html>maintenance</html>"},
        {"status": 200, "body": {"data": None, "errors": [{"message": "internal error"}]}},
        {"status": 200, "body": {"data": {}}},
        {"drop": "before"},
        {"delay_s": 1},
        {"raw_body": '{"data": {"vie'},
    ],
    ids=json.dumps,
)
async def test_nothing_is_said_against_the_key_when_the_answer_is_no_answer(
    sandbox: Client, prover: KeyProver, action: dict[str, object]
) -> None:
    await register(sandbox, entity="team-a")
    await fault(sandbox, "wandb", action, times=20)
    with pytest.raises(UnavailableError):
        await prover.prove(Secret(KEY))


async def test_pause_is_kept_when_w_and_b_asks_for_one(sandbox: Client, prover: KeyProver) -> None:
    await fault(sandbox, "wandb", {"status": 429, "headers": {"Retry-After": "70"}}, times=9)
    with pytest.raises(ThrottledError) as caught:
        await prover.prove(Secret(KEY))
    assert caught.value.retry_after == 70.0
    assert len(await requests(sandbox, "wandb")) == 1


async def test_key_is_proved_when_w_and_b_stumbles_once(sandbox: Client, prover: KeyProver) -> None:
    await register(sandbox, entity="team-a")
    await fault(sandbox, "wandb", {"status": 502}, times=1)
    assert (await prover.prove(Secret(KEY))).entity == "team-a"


async def test_key_is_in_no_error_and_no_log(
    sandbox: Client, prover: KeyProver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await fault(sandbox, "wandb", {"drop": "before"}, times=20)
    with pytest.raises(TemporaryError) as caught:
        await prover.prove(Secret(KEY))
    text = caplog.text + repr(caught.value) + repr(caught.value.__context__)
    assert KEY not in text
    assert caught.value.__cause__ is None
