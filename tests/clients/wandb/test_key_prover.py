"""Proving keys over real HTTP: a clear yes, a clear no, and everything that says neither."""

import json
import logging

import aiohttp
import pytest

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.keys import KeyProver
from finetune_wandb.model.errors import (
    RejectedError,
    TemporaryError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.secret import Secret
from tests.clients.azure_stage import KEY, fault, requests
from tests.dev.sandbox.stage import Client

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


@pytest.mark.parametrize(
    ("write", "expected"), [(None, True), (["team-a"], True), (["team-a/other"], False)]
)
async def test_right_to_write_is_told_when_the_project_is_there(
    sandbox: Client, prover: KeyProver, write: list[str] | None, expected: bool
) -> None:
    await register(sandbox, entity="team-a")
    body = {
        "query": 'mutation { upsertModel(input: {entityName: "team-a", name: "p"}) { inserted } }'
    }
    auth = aiohttp.encode_basic_auth("api", KEY)
    url = f"{sandbox.process.wandb_url}/graphql"
    async with sandbox.session.post(url, json=body, headers={"Authorization": auth}) as answer:
        assert answer.status == 200
    await register(sandbox, entity="team-a", write=write)
    assert await prover.may_write(Secret(KEY), "team-a", "p") is expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"status": 403, "body": {"errors": [{"message": "permission denied"}]}}, False),
        ({"status": 200, "body": {"data": {"project": None}}}, None),
        ({"status": 200, "body": {"data": {"project": {}}}}, None),
        ({"status": 400, "body": {"errors": [{"message": "Unknown field"}]}}, None),
        ({"status": 404, "body": {"errors": [{"message": "project not found"}]}}, None),
    ],
    ids=json.dumps,
)
async def test_right_to_write_is_as_far_as_w_and_b_tells(
    sandbox: Client, prover: KeyProver, action: dict[str, object], expected: bool | None
) -> None:
    await fault(sandbox, "wandb", action, times=20)
    assert await prover.may_write(Secret(KEY), "team-a", "p") is expected


@pytest.mark.parametrize(
    ("status", "error"), [(401, RejectedError), (503, UnavailableError), (429, ThrottledError)]
)
async def test_nothing_is_said_about_rights_when_the_key_or_w_and_b_fails(
    sandbox: Client, prover: KeyProver, status: int, error: type[Exception]
) -> None:
    await fault(sandbox, "wandb", {"status": status}, times=20)
    with pytest.raises(error):
        await prover.may_write(Secret(KEY), "team-a", "p")


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
