"""The Event Grid webhook: handshakes, dispatch, and the statuses Event Grid acts on."""

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.dev.devhost.conftest import RunningHost

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/runtime/webhooks/eventgrid?functionName="
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


def grid_event(number: int, **data: Any) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "topic": "/subscriptions/s",
        "subject": "it",
        "eventType": "Sample.Happened",
        "eventTime": "2026-11-24T03:45:00.1234567Z",
        "dataVersion": "1",
        "data": data,
    }


async def post(
    host: "RunningHost", body: Any, kind: str | None = "Notification", name: str = "on_event"
) -> tuple[int, str]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    headers = {"aeg-event-type": kind} if kind else {}
    async with host.http.post(host.url + PATH + name, data=data, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_each_event_is_one_invocation_when_delivered_as_array(host: "RunningHost") -> None:
    assert await post(host, [grid_event(n) for n in range(3)]) == (202, "")
    facts = host.facts("on_event")
    assert sorted(f["id"] for f in facts) == ["e0", "e1", "e2"]
    assert {(f["type"], f["kind"]) for f in facts} == {("Sample.Happened", "grid")}


async def test_cloud_event_arrives_when_sent_alone(host: "RunningHost") -> None:
    event = {"specversion": "1.0", "id": "c1", "source": "s", "type": "Sample.Cloud", "data": {}}
    assert await post(host, event) == (202, "")
    assert [(f["id"], f["kind"]) for f in host.facts("on_event")] == [("c1", "cloud")]


async def test_delivery_fails_as_a_whole_when_one_event_fails(host: "RunningHost") -> None:
    status, text = await post(host, [grid_event(1), grid_event(2, fail=True), grid_event(3)])
    assert status == 500
    assert "on_event" in text
    assert "told to fail" not in text
    assert len(host.facts("on_event")) == 3


@pytest.mark.parametrize(
    ("body", "kind", "name", "status"),
    [
        pytest.param([], "Notification", "no_such", 404, id="unknown function"),
        pytest.param([], "Notification", "echo", 404, id="function of another kind"),
        pytest.param([], "Notification", "ON_EVENT", 404, id="wrong case"),
        pytest.param("{not json", "Notification", "on_event", 500, id="not JSON"),
        pytest.param(b"\xff\xfe\x00x", "Notification", "on_event", 500, id="not text"),
        pytest.param("[" * 100_000, "Notification", "on_event", 500, id="nested too deep"),
        pytest.param(["text"], "Notification", "on_event", 500, id="event is not an object"),
        pytest.param([grid_event(1)], None, "on_event", 400, id="no type header"),
        pytest.param([grid_event(1)], "SubscriptionValidation", "on_event", 400, id="no code"),
        pytest.param({}, "SubscriptionValidation", "on_event", 400, id="validation not a list"),
        pytest.param([], "Unsubscribe", "on_event", 202, id="unsubscribe"),
        pytest.param([], "notification", "on_event", 202, id="no events"),
    ],
)
async def test_status_is_the_clouds_when_delivery_is_odd(
    host: "RunningHost", body: Any, kind: str | None, name: str, status: int
) -> None:
    assert (await post(host, body, kind, name))[0] == status
    assert host.facts("on_event") == []


async def test_code_comes_back_when_subscription_is_validated(host: "RunningHost") -> None:
    event = grid_event(1, validationCode="c0de") | {"eventType": VALIDATION}
    status, text = await post(host, [event], "SubscriptionValidation")
    assert (status, json.loads(text)) == (200, {"validationResponse": "c0de"})


async def test_origin_is_allowed_when_cloud_events_ask(host: "RunningHost") -> None:
    headers = {"WebHook-Request-Origin": "eventgrid.azure.net"}
    async with host.http.options(host.url + PATH + "on_event", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
