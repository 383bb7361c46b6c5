"""Whoever can reach the app's HTTP API and its webhook: large, deep, odd and forged requests."""

import asyncio
import io
import json
from typing import Any

import pytest
from yarl import URL

from tests.e2e.driver import SUBSCRIPTION, Driver

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

DEEP = "[" * 100_000 + "]" * 100_000
JSON = {"Content-Type": "application/json"}


async def sent(
    driver: Driver, method: str, path: str, data: bytes | None = None, **headers: str
) -> tuple[int, str]:
    """Return status and text of a request whose path goes out exactly as it is written."""
    url = URL(f"{driver.host_url}{path}", encoded=True)
    async with driver.http.request(
        method, url, data=io.BytesIO(data or b""), headers=headers, allow_redirects=False
    ) as answer:
        return answer.status, await answer.text()


BODIES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "two megabytes": (b'{"scope": "' + b"a" * 2_000_000 + b'"}', (413,)),
    "a hundred thousand deep": (DEEP.encode(), (400, 413)),
    "deep below the limit": (b'{"scope":' + b"[" * 1500 + b"]" * 1500 + b"}", (400,)),
    "no JSON": (b"scope=all", (400,)),
    "no text": (b"\xff\xfe\x00", (400,)),
    "a number": (b"1e400", (400,)),
    "a field twice": (b'{"scope":"all","scope":"nothing"}', (400,)),
    "a prototype": (b'{"__proto__": {"mode": "apply"}, "scope": "all"}', (400,)),
    "a job that is a path": (
        json.dumps(
            {
                "scope": "job",
                "account": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers"
                "/Microsoft.CognitiveServices/accounts/a",
                "job": "../../files/file-1/content?x=",
            }
        ).encode(),
        (400,),
    ),
    "an account of somebody else": (
        json.dumps(
            {
                "scope": "account",
                "account": "/subscriptions/99999999-0000-4000-8000-000000000009/resourceGroups/g"
                "/providers/Microsoft.CognitiveServices/accounts/a",
            }
        ).encode(),
        (400,),
    ),
}


@pytest.mark.parametrize("attack", BODIES)
async def test_body_is_refused_with_its_reason_when_it_is_an_attack(
    driver: Driver, attack: str
) -> None:
    body, wanted = BODIES[attack]
    status, text = await sent(driver, "POST", "/api/resync", body, **JSON)
    assert status in wanted, text[:300]
    assert "Traceback" not in text
    assert len(text) < 2000, "an answer that echoes what it was sent"
    assert (await sent(driver, "GET", "/api/health"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/resync/..%2f..%2fstatus",
        "/api/resync/%00",
        "/api/resync/<script>alert(1)</script>",
        "/api/resync/" + "a" * 8000,
        "/api/../local.settings.json",
        "/api/%2e%2e/host.json",
        "/api/dashboard/../../function_app.py",
        "/api/status?account=" + "a" * 4000,
        "/api/status?page=-1&limit=9999999999999999999",
        "/api/status?job=%27%20or%201%20eq%201",
        "/api/dashboard?account=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ],
    ids=lambda path: path[:50],
)
async def test_nothing_is_given_away_when_a_path_is_an_attack(driver: Driver, path: str) -> None:
    status, text = await sent(driver, "GET", path)
    assert status < 500, text[:300]
    for forbidden in ("Traceback", "<script>alert", "AccountKey", "FUNCTIONS_WORKER_RUNTIME"):
        assert forbidden not in text


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "TRACE"], ids=lambda method: str(method)
)
async def test_method_is_refused_when_the_api_has_it_not(driver: Driver, method: str) -> None:
    for path in ("resync", "resync/1", "status", "dashboard", "audit", "openapi.json", "health"):
        status, text = await sent(driver, method, f"/api/{path}")
        assert (status, json.loads(text)["field"]) == (405, "method")


async def test_page_of_another_site_cannot_start_a_resync(driver: Driver) -> None:
    headers = {"sec-fetch-site": "cross-site", **JSON}
    assert (await sent(driver, "POST", "/api/resync", b"{}", **headers))[0] == 403
    plain = {"Content-Type": "text/plain"}
    assert (await sent(driver, "POST", "/api/resync", b"{}", **plain))[0] == 415


async def test_headers_of_a_sign_in_are_not_believed_when_nobody_signs_in(driver: Driver) -> None:
    name = "mallory@example.com"
    headers = {"x-ms-client-principal-name": name, **JSON}
    status, text = await sent(driver, "POST", "/api/resync?wait=5", b'{"mode":"check"}', **headers)
    assert status in (200, 202), text
    assert name not in text
    assert name not in str(await driver.status())


EVENTS: dict[str, bytes] = {
    "a hundred thousand deep": DEEP.encode(),
    "a megabyte in one name": json.dumps([{"x" * 1_000_000: 1}]).encode(),
    "deep data": json.dumps([{"data": None}]).replace("null", "[" * 900 + "]" * 900).encode(),
    "no array": b'"event"',
    "hundreds of events": json.dumps([{"id": str(place)} for place in range(300)]).encode(),
    "no text": b"\x80\x81",
}


@pytest.mark.parametrize("attack", EVENTS)
async def test_host_goes_on_when_an_event_is_an_attack(driver: Driver, attack: str) -> None:
    starts = driver.stack.host_starts
    path = "/runtime/webhooks/eventgrid?functionName=account_event"
    headers = {"aeg-event-type": "Notification", **JSON}
    await driver.forget_requests()
    await sent(driver, "POST", path, EVENTS[attack], **headers)
    assert (await sent(driver, "GET", "/api/health"))[0] == 200
    assert driver.stack.host_starts == starts
    assert await driver.writes() == []


async def test_real_event_is_served_when_attacks_came_before_it(driver: Driver) -> None:
    noise: Any = [{"id": "x", "eventType": "T", "subject": "s", "data": {}}] * 50
    await asyncio.gather(
        driver.deliver("account_event", *noise), driver.onboard(driver.new_name("acc-after"))
    )
