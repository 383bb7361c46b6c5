"""POST /api/resync: what is refused before any work is taken on."""

from types import SimpleNamespace
from typing import Any

import azure.functions as func
import orjson
import pytest

from finetune_wandb.model.errors import MissingError, UnavailableError
from handlers.problem_details import RequestError
from handlers.resync import LONGEST_WAIT_S, MOST_BYTES, answer, caller
from tests.flows.resync_stage import ACCOUNT, Stage
from tests.handlers.stage import FakeApp

URL = "https://app.azurewebsites.net/api/resync"


def request(body: bytes = b"{}", *, wait: str = "", **headers: str) -> func.HttpRequest:
    given = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return func.HttpRequest("POST", URL, headers=given, params={"wait": wait}, body=body)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (MOST_BYTES + 1), 413),
        (b"{" + b" " * MOST_BYTES + b"}", 413),
    ],
    ids=["long", "blanks"],
)
async def test_body_is_refused_when_it_is_too_long(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        await answer(request(body), FakeApp())
    assert (caught.value.status, caught.value.subject) == (status, "body")


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_body_is_refused_when_its_type_is_not_json(media: str) -> None:
    """What a page of another site can send without being asked first is none of these."""
    with pytest.raises(RequestError) as caught:
        await answer(request(b"{}", content_type=media), FakeApp())
    assert (caught.value.status, caught.value.subject) == (415, "Content-Type")


async def test_request_is_refused_when_another_site_sends_it() -> None:
    with pytest.raises(RequestError) as caught:
        await answer(request(sec_fetch_site="cross-site"), FakeApp())
    assert caught.value.status == 403


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 5000, b'{"scope": "all"', b"NaN"])
async def test_body_is_refused_when_it_is_not_json(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        await answer(request(body), FakeApp())
    assert caught.value.subject == "body"


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf", "1e9", f"{LONGEST_WAIT_S + 1}", "1;2"])
async def test_wait_is_refused_when_it_is_no_time_that_can_be_waited(wait: str) -> None:
    with pytest.raises(RequestError) as caught:
        await answer(request(wait=wait), FakeApp())
    assert caught.value.subject == "wait"


@pytest.mark.parametrize("body", [b'{"scope": "everything"}', b"5", b'{"x": 1}', b"null"])
async def test_nothing_is_taken_on_when_a_field_is_wrong(body: bytes) -> None:
    app: Any = FakeApp()
    with pytest.raises(RequestError):
        await answer(request(body), app)
    assert app.sent == []


def job_body(**more: str) -> bytes:
    return orjson.dumps({"scope": "job", "account": str(ACCOUNT.id), "job": "ftjob-9", **more})


def subscribed(stage: Stage) -> Any:
    app: Any = stage.app
    app.settings = SimpleNamespace(azure_subscription_ids=(ACCOUNT.id.subscription.lower(),))
    app.signed_in = False
    return app


async def test_job_is_refused_when_its_account_has_none_such() -> None:
    stage = Stage(jobs=2)
    with pytest.raises(MissingError) as caught:
        await answer(request(job_body()), subscribed(stage))
    assert caught.value.subject == "job"
    assert stage.reconcile_queue.sent == []


@pytest.mark.parametrize("reason", ["there", "api-down", "not-relayed"])
async def test_job_is_taken_on_when_it_may_be_there(reason: str) -> None:
    stage = Stage(jobs=10)
    app = subscribed(stage)

    async def fails(account: Any, job: str) -> Any:
        raise UnavailableError("away")

    async def unknown(account: Any) -> None:
        return None

    if reason == "api-down":
        app.relay.jobs.read_job = fails
    if reason == "not-relayed":
        app.accounts.find_for_relay = unknown
    found = await answer(request(job_body(job="ftjob-009")), app)
    assert found.status_code == 202
    assert [message["kind"] for message in stage.reconcile_queue.sent] == ["resync"]


async def test_same_call_joins_when_its_account_is_written_in_another_way() -> None:
    stage = Stage(jobs=1)
    app = subscribed(stage)
    spellings = [str(ACCOUNT.id), str(ACCOUNT.id).upper(), f"{ACCOUNT.id.key}/"]
    bodies = [orjson.dumps({"scope": "account", "account": one}) for one in spellings]
    answers = [await answer(request(body), app) for body in bodies]
    assert len({orjson.loads(one.get_body())["id"] for one in answers}) == 1
    assert len(stage.reconcile_queue.sent) == 1


@pytest.mark.parametrize(("signed_in", "name"), [(True, "ann@example.com"), (False, "")])
def test_caller_is_believed_only_when_the_platform_names_it(signed_in: bool, name: str) -> None:
    app: Any = SimpleNamespace(signed_in=signed_in)
    sent: Any = SimpleNamespace(headers={"x-ms-client-principal-name": "ann@example.com"})
    assert caller(sent, app) == name
