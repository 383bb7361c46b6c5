"""Which key opens which door when the host asks for keys."""

import json
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.dev.devhost.conftest import starter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.dev.devhost.conftest import RunningHost

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS = "/runtime/webhooks/eventgrid?functionName=on_event"
DOORS = {
    # path: with no key, a wrong one, the function, the system and the master key
    "/api/echo/x": (401, 401, 201, 401, 201),
    "/api/open": (200, 200, 200, 200, 200),
    "/api/closed": (401, 401, 401, 401, 200),
    EVENTS: (401, 401, 403, 202, 202),
    "/admin/host/status": (401, 401, 401, 401, 200),
    "/admin/functions": (401, 401, 401, 401, 200),
    "/admin/host/ping": (200, 200, 200, 200, 200),
}
KEYS = ("", "wrong", "f-key", "local-system-key", "local-master-key")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> "AsyncIterator[RunningHost]":
    async with starter(tmp_path_factory.mktemp("locked")) as start:
        yield await start(
            AzureWebJobs_on_message_Disabled="1", HOST_AUTH="on", HOST_FUNCTION_KEY="f-key"
        )


async def knock(host: "RunningHost", path: str, header: str = "", code: str = "") -> int:
    method, data = ("POST", json.dumps([])) if path == EVENTS else ("GET", None)
    headers = {"aeg-event-type": "Notification"} | ({"x-functions-key": header} if header else {})
    url = host.url + path + (f"{'&' if '?' in path else '?'}code={code}" if code else "")
    async with host.http.request(method, url, data=data, headers=headers) as answer:
        if answer.status in (401, 403):
            assert await answer.read() == b""
        return answer.status


@pytest.mark.parametrize("path", DOORS)
async def test_door_opens_only_when_its_key_is_shown(locked: "RunningHost", path: str) -> None:
    assert tuple([await knock(locked, path, header=key) for key in KEYS]) == DOORS[path]
    assert tuple([await knock(locked, path, code=key) for key in KEYS]) == DOORS[path]


async def test_header_wins_when_a_code_is_given_too(locked: "RunningHost") -> None:
    assert await knock(locked, "/api/echo/x", header="wrong", code="f-key") == 401


async def test_no_key_is_asked_for_when_it_is_not_switched_on(host: "RunningHost") -> None:
    assert [await knock(host, path) for path in DOORS] == [201, 200, 200, 202, 200, 200, 200]
