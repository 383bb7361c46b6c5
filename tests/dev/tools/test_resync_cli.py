"""The re-sync command: its exit codes, and what it shows, against a small stand-in of the app."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.commands import resync

Json = dict[str, Any]


class FakeApp:
    """Answers as /api/resync does: first running, then as it is told."""

    def __init__(self) -> None:
        self.bodies: list[Json] = []
        self.keys: list[str] = []
        self.refusal: tuple[int, Json] | None = None
        self.end: Json = {"done": 2, "failed": 0, "items": []}
        self.url = ""

    def shown(self, **changes: Any) -> Json:
        return {
            "id": "0" * 32,
            "state": "running",
            "total": 2,
            "done": 0,
            "failed": 0,
            "rate_per_s": 1.0,
            "elapsed_s": 2.0,
            "left_s": 1,
            "request": {"mode": self.bodies[-1]["mode"]},
            "items": [],
            **changes,
        }

    async def post(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("x-functions-key", ""))
        if self.refusal:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        return web.json_response(self.shown(), status=202)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.shown(state="done", **self.end))


@pytest.fixture
async def app() -> AsyncIterator[FakeApp]:
    fake, server = FakeApp(), web.Application()
    server.router.add_post("/api/resync", fake.post)
    server.router.add_get("/api/resync/{id}", fake.get)
    async with TestServer(server) as started:
        fake.url = str(started.make_url(""))
        yield fake


async def call(app: FakeApp, *argv: str) -> int:
    return await asyncio.to_thread(resync.main, ["--url", app.url, *argv])


async def test_code_is_0_when_all_is_done(app: FakeApp, capfd: pytest.CaptureFixture[str]) -> None:
    assert await call(app, "--json") == resync.DONE
    assert app.bodies == [{"scope": "all", "mode": "apply"}]
    out, err = capfd.readouterr()
    assert json.loads(out)["state"] == "done"
    assert "2 done, 0 failed, of 2" in err


async def test_code_is_1_and_remedy_is_shown_when_something_failed(
    app: FakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    failure = {"job": "ftjob-1", "error": "[no] such job", "remedy": "check the id"}
    app.end = {
        "done": 1,
        "failed": 1,
        "items": [{"name": "jobs", "account": "a", "results": [failure]}],
    }
    assert await call(app) == resync.FAILED
    err = capfd.readouterr().err
    assert "ftjob-1: [no] such job" in err
    assert "check the id" in err


async def test_plan_is_shown_when_only_checked(
    app: FakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    results = [
        {"plan": [{"kind": "grant_role", "target": "/vaults/kv"}]},
        {"jobs": 4, "to_relay": 3, "complete": 1},
    ]
    app.end = {
        "done": 1,
        "failed": 0,
        "items": [{"name": "account", "account": "/accounts/aoai", "results": results}],
    }
    assert await call(app, "--check") == resync.DONE
    err = capfd.readouterr().err
    assert "grant_role /vaults/kv" in err
    assert "aoai: 3 of 4 to relay" in err


async def test_arguments_become_the_body_when_given(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_FUNCTION_KEY", "the-key")
    arguments = ["--account", "/a", "--job", "ftjob-1", "--part", "jobs", "--force"]
    assert await call(app, *arguments, "--since", "2026-01-31") == resync.DONE
    assert app.bodies == [
        {
            "scope": "job",
            "account": "/a",
            "job": "ftjob-1",
            "parts": ["jobs"],
            "mode": "apply",
            "since": "2026-01-31",
            "force": True,
        }
    ]
    assert app.keys == ["the-key"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"detail": "since: must be a date", "remedy": "write 2026-01-31"}, "must be a date"),
        (401, {}, "RELAY_FUNCTION_KEY"),
        (302, {}, "answered 302"),
    ],
)
async def test_code_is_2_when_refused(
    app: FakeApp,
    capfd: pytest.CaptureFixture[str],
    status: int,
    body: Json,
    said: str,
) -> None:
    app.refusal = (status, body)
    assert await call(app) == resync.REFUSED
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("url", ["app.azurewebsites.net", "app", "ftp://app", "http://"])
def test_code_is_2_at_once_when_the_address_is_none(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resync.main(["--url", url]) == resync.REFUSED
    assert "https://" in capfd.readouterr().err


async def test_code_is_3_when_not_done_in_time(
    app: FakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await call(app, "--timeout", "0") == resync.UNREACHED
    assert "it goes on" in capfd.readouterr().err


def test_every_argument_is_explained_when_asked_for_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        resync.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for name in ("--scope", "--account", "--job", "--part", "--check", "--since", "--force"):
        assert name in out
