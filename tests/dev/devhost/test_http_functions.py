"""HTTP functions behind the host: what reaches the function and what comes back."""

import asyncio
import io
from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

if TYPE_CHECKING:
    from tests.dev.devhost.conftest import RunningHost, StartHost

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_function_sees_whole_request_when_called(host: "RunningHost") -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with host.http.post(
        f"{host.url}/api/echo/a%20b/7?x=1&x=2&empty=&z=%C3%A4",
        data=b"\x00\xffbody",
        headers=[("X-One", "1"), ("X-One", "2"), ("traceparent", trace)],
    ) as answer:
        seen = await answer.json()
    assert (seen["method"], seen["body_bytes"], seen["body"]) == ("POST", 6, "\x00\xffbody")
    assert seen["params"] == {"x": "1,2", "z": "ä"}
    assert seen["route"] == {"kind": "a b", "number": "7"}
    assert seen["headers"]["x-one"] == "1,2"
    assert seen["url"].startswith(f"{host.url}/api/echo/")
    assert seen["trace_parent"] == trace
    assert seen["folder"].endswith("sample_app")


async def test_response_is_the_functions_when_it_returns_one(host: "RunningHost") -> None:
    async with host.http.get(f"{host.url}/api/echo/x") as answer:
        assert answer.status == 201
        assert answer.headers["X-Sample"] == "yes"
        assert answer.content_type == "application/json"
        assert answer.headers.getall("Set-Cookie") == ["a=1; Path=/", "b=2; HttpOnly"]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        pytest.param("GET", "/api/echo/fixed", 200, "fixed", id="literal beats parameter"),
        pytest.param("GET", "/API/Echo/FIXED/", 200, "fixed", id="case and last slash"),
        pytest.param("GET", "/api/files/a/b%2Fc", 200, "a/b%2Fc", id="catch-all"),
        pytest.param("GET", "/api/files", 200, "nothing", id="empty catch-all"),
        pytest.param("GET", "/api/echo/x/seven", 404, "", id="constraint not met"),
        pytest.param("GET", "/api/nothing", 404, "", id="unknown path"),
        pytest.param("GET", "/echo/fixed", 404, "", id="without prefix"),
        pytest.param("DELETE", "/api/echo/x", 404, "", id="method not listed"),
        pytest.param("HEAD", "/api/echo/x", 404, "", id="HEAD not listed"),
        pytest.param("GET", "/api/broken", 500, "", id="function raises"),
        pytest.param("GET", "/", 200, "The function app is running.\n", id="home"),
    ],
)
async def test_status_is_the_clouds_when_path_and_method_vary(
    host: "RunningHost", method: str, path: str, status: int, text: str
) -> None:
    url = URL(host.url + path, encoded=True)
    async with host.http.request(method, url) as answer:
        assert (answer.status, await answer.text()) == (status, text)


async def test_log_names_the_line_when_function_raises(host: "RunningHost") -> None:
    async with host.http.get(f"{host.url}/api/broken"):
        pass
    line = next(line for line in host.log().splitlines() if "broken" in line and "failed" in line)
    assert "ValueError('the sample breaks on purpose')" in line
    assert "function_app.py:" in line


async def test_body_is_taken_up_to_100_mb_when_large(host: "RunningHost") -> None:
    limit = 100 * 1024 * 1024
    async with host.http.post(f"{host.url}/api/echo/x", data=io.BytesIO(bytes(limit))) as answer:
        assert (await answer.json())["body_bytes"] == limit
    async with host.http.post(
        f"{host.url}/api/echo/x", data=io.BytesIO(bytes(limit + 1))
    ) as answer:
        assert (answer.status, await answer.read()) == (500, b"")


async def test_client_may_send_body_when_it_asks_first(host: "RunningHost") -> None:
    async with host.http.post(f"{host.url}/api/echo/x", data=b"asked", expect100=True) as answer:
        assert (await answer.json())["body"] == "asked"


async def test_requests_overlap_when_functions_wait(host: "RunningHost") -> None:
    async def nap() -> int:
        async with host.http.get(f"{host.url}/api/nap/400") as answer:
            return answer.status

    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(*(nap() for _ in range(20))) == [200] * 20
    assert asyncio.get_running_loop().time() - started < 3


async def test_all_that_runs_ends_when_one_exceeds_function_timeout(
    start_host: "StartHost",
) -> None:
    host = await start_host(**{"AzureWebJobs.on_message.Disabled": "1"})

    async def nap(milliseconds: int, after: float = 0) -> None:
        await asyncio.sleep(after)
        async with host.http.get(f"{host.url}/api/nap/{milliseconds}"):
            pass

    ended = await asyncio.gather(nap(60000), nap(4000, after=2), return_exceptions=True)
    assert all(isinstance(one, aiohttp.ClientError) for one in ended), ended
    assert await host.process.wait() == 4
    assert "functionTimeout (5 s)" in host.log()
    assert host.facts("nap") == []


@pytest.mark.parametrize(
    ("path", "parameter"),
    [("a%2Fb", "a%2Fb"), ("a%2fb%20c", "a%2fb c"), ("a%3Fb", "a?b")],
)
async def test_slash_stays_escaped_when_it_is_in_a_route_parameter(
    host: "RunningHost", path: str, parameter: str
) -> None:
    async with host.http.get(URL(f"{host.url}/api/echo/{path}", encoded=True)) as answer:
        assert (await answer.json())["route"]["kind"] == parameter
    assert host.facts("nap") == []
