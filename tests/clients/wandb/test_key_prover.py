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


async def make_project(sandbox: Client, name: str) -> None:
    """Make a project of team-a, as a member who may write."""
    body = {
        "query": "mutation ($name: String!) {"
        ' upsertModel(input: {entityName: "team-a", name: $name}) { inserted } }',
        "variables": {"name": name},
    }
    await register(sandbox, entity="team-a")
    auth = aiohttp.encode_basic_auth("api", KEY)
    url = f"{sandbox.process.wandb_url}/graphql"
    async with sandbox.session.post(url, json=body, headers={"Authorization": auth}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("owner", "project", "expected"),
    [
        ({"entity": "team-a"}, "p", "write"),
        ({"entity": "team-a", "write": ["team-a/p"]}, "p", "write"),
        ({"entity": "team-a", "write": ["team-a/other"]}, "p", "read_only"),
        ({"entity": "team-a"}, "not-there", "new_project"),
        # A viewer seat shows in the projects that are there.
        ({"entity": "team-a", "write": []}, "not-there", "read_only"),
        # A service account of an organization, in a team that W&B does not list.
        ({"entity": "robot", "write": ["team-a"]}, "p", "write"),
        ({"entity": "elsewhere"}, "p", "new_project"),
    ],
)
async def test_right_is_the_one_in_the_entity_and_project_that_are_asked_about(
    sandbox: Client, prover: KeyProver, owner: dict[str, object], project: str, expected: str
) -> None:
    await make_project(sandbox, "p")
    await register(sandbox, **owner)
    assert await prover.write_right(Secret(KEY), "team-a", project) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({"status": 403, "body": {"errors": [{"message": "permission denied"}]}}, "refused"),
        ({"status": 200, "body": {"data": {"project": None}}}, "new_project"),
        ({"status": 200, "body": {"data": {"project": {}}}}, "unknown"),
        ({"status": 400, "body": {"errors": [{"message": "Unknown field"}]}}, "unknown"),
        ({"status": 403, "body": "<html>a proxy says no</html>"}, "unknown"),
        ({"status": 404, "body": {"errors": [{"message": "project not found"}]}}, "new_project"),
    ],
    ids=json.dumps,
)
async def test_right_to_write_is_as_far_as_w_and_b_tells(
    sandbox: Client, prover: KeyProver, action: dict[str, object], expected: str
) -> None:
    await fault(sandbox, "wandb", action, times=20)
    assert await prover.write_right(Secret(KEY), "team-a", "p") == expected


@pytest.mark.parametrize(
    ("status", "error"), [(401, RejectedError), (503, UnavailableError), (429, ThrottledError)]
)
async def test_nothing_is_said_about_rights_when_the_key_or_w_and_b_fails(
    sandbox: Client, prover: KeyProver, status: int, error: type[Exception]
) -> None:
    await fault(sandbox, "wandb", {"status": status}, times=20)
    with pytest.raises(error):
        await prover.write_right(Secret(KEY), "team-a", "p")


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
