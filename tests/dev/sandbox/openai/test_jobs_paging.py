"""How jobs, events and checkpoints are paged, through raw calls and the official SDK."""

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from dev.sandbox.openai.pages import Pages
from tests.dev.sandbox.openai.jobs_server import JobsServer, jobs_server

JOB = "ftjob-1"
PATH = f"/openai/v1/fine_tuning/jobs/{JOB}"


@pytest.fixture
async def server() -> AsyncIterator[JobsServer]:
    async with jobs_server() as running:
        yield running


def _event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"ftevent-{number}",
        "object": "fine_tuning.job.event",
        "created_at": 1000 + number,
        "level": "info",
        "message": f"event {number}",
        "type": "message",
    } | changes


async def _walk(server: JobsServer, path: str, limit: int) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    after = ""
    for _ in range(1000):
        page = await server.get(f"{path}?limit={limit}{after}")
        assert page["data"], "a page must bring something"
        seen += page["data"]
        if not page["has_more"]:
            return seen
        after = f"&after={seen[-1]['id']}"
    raise AssertionError("paging does not end")


async def test_events_come_newest_first_when_set_in_any_order(server: JobsServer) -> None:
    events = [_event(n, data={"step": n}) for n in range(30)]
    shuffled = random.Random(4).sample(events, len(events))
    await server.put_job(JOB, {"job": {"status": "running"}, "events": shuffled})
    assert await _walk(server, f"{PATH}/events", 7) == events[::-1]


async def test_later_step_comes_first_when_events_share_a_second(server: JobsServer) -> None:
    events = [_event(n, created_at=5, data={"step": n}) for n in (2, 3, 1)]
    await server.put_job(JOB, {"job": {}, "events": events})
    page = await server.get(f"{PATH}/events")
    assert [event["data"]["step"] for event in page["data"]] == [3, 2, 1]


async def test_events_keep_their_order_when_told_so(server: JobsServer) -> None:
    events = [_event(n) for n in (3, 9, 1, 4)]
    await server.put_job(JOB, {"job": {}, "events": events, "order": "given"})
    assert await _walk(server, f"{PATH}/events", 3) == events


@pytest.mark.parametrize("order", ["newest", "given"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 50])
async def test_paging_never_skips_when_ids_repeat(
    server: JobsServer, order: str, limit: int
) -> None:
    rng = random.Random(limit)
    events = [_event(rng.randrange(12), level=f"copy {n}") for n in range(60)]
    await server.put_job(JOB, {"job": {}, "events": events, "order": order})
    seen = await _walk(server, f"{PATH}/events", limit)
    assert sorted(e["level"] for e in seen) == sorted(e["level"] for e in events)


async def test_after_goes_on_behind_the_last_copy_when_an_id_repeats(server: JobsServer) -> None:
    events = [_event(n) for n in (9, 8, 9, 7, 6)]
    await server.put_job(JOB, {"job": {}, "events": events, "order": "given"})
    page = await server.get(f"{PATH}/events?limit=1")
    assert [e["id"] for e in page["data"]] == ["ftevent-9", "ftevent-8", "ftevent-9"]
    page = await server.get(f"{PATH}/events?limit=1&after=ftevent-9")
    assert [e["id"] for e in page["data"]] == ["ftevent-7"]
    assert page["has_more"] is True


async def test_page_grows_to_a_named_event_when_some_have_no_id(server: JobsServer) -> None:
    nameless = [{"message": f"m{n}"} for n in range(3)]
    events = [_event(5), *nameless, _event(1), _event(0)]
    await server.put_job(JOB, {"job": {}, "events": events, "order": "given"})
    page = await server.get(f"{PATH}/events?limit=2")
    assert page["data"] == events[:5]
    assert page["has_more"] is True


async def test_pages_stay_small_when_control_caps_them(server: JobsServer) -> None:
    events = [_event(n) for n in range(9)]
    await server.put_job(JOB, {"job": {}, "events": events, "page_size": 2})
    page = await server.get(f"{PATH}/events?limit=100")
    assert len(page["data"]) == 2
    assert page["has_more"] is True
    await server.put_job(JOB, {"page_size": None})
    page = await server.get(f"{PATH}/events?limit=100")
    assert len(page["data"]) == 9


async def test_defaults_apply_when_no_limit_is_asked(server: JobsServer) -> None:
    for number in range(25):
        await server.put_job(f"ftjob-{number}", {"job": {"created_at": number}})
    checkpoints = [{"id": f"c{n}", "created_at": n, "step_number": n} for n in range(12)]
    body = {"events": [_event(n) for n in range(25)], "checkpoints": checkpoints}
    await server.put_job(JOB, body)
    jobs = await server.get("/openai/v1/fine_tuning/jobs")
    assert [job["id"] for job in jobs["data"]] == [f"ftjob-{n}" for n in range(24, 4, -1)]
    assert (jobs["first_id"], jobs["last_id"]) == ("ftjob-24", "ftjob-5")
    assert jobs["has_more"] is True
    assert len((await server.get(f"{PATH}/events"))["data"]) == 20
    assert len((await server.get(f"{PATH}/checkpoints"))["data"]) == 10


async def test_job_moves_in_the_list_when_its_creation_time_changes(server: JobsServer) -> None:
    for number in range(3):
        await server.put_job(f"ftjob-{number}", {"job": {"created_at": number}})
    await server.get("/openai/v1/fine_tuning/jobs")
    await server.put_job("ftjob-0", {"job": {"created_at": 50}})
    jobs = await server.get("/openai/v1/fine_tuning/jobs")
    assert [job["id"] for job in jobs["data"]] == ["ftjob-0", "ftjob-2", "ftjob-1"]


async def test_sdk_pages_through_everything_when_iterated(server: JobsServer) -> None:
    for number in range(45):
        await server.put_job(f"ftjob-{number}", {"job": {"created_at": number}})
    checkpoints = [{"id": f"c{n}", "created_at": n, "step_number": n} for n in range(5)]
    body = {"events": [_event(n) for n in range(70)], "checkpoints": checkpoints}
    await server.put_job(JOB, body)
    for client in (server.azure(), server.openai()):
        async with client:
            api = client.fine_tuning.jobs
            assert len([job async for job in api.list(limit=10)]) == 45
            events = [event.id async for event in api.list_events(JOB, limit=8)]
            assert events == [f"ftevent-{n}" for n in range(69, -1, -1)]
            found = [c.step_number async for c in api.checkpoints.list(JOB, limit=2)]
            assert found == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=²"])
async def test_limit_is_refused_when_it_is_no_whole_number(server: JobsServer, query: str) -> None:
    await server.put_job(JOB, {"job": {}})
    for path in ("/openai/v1/fine_tuning/jobs", f"{PATH}/events", f"{PATH}/checkpoints"):
        status, body, _ = await server.call("GET", f"{server.host()}{path}?{query}")
        assert status == 400
        assert body["error"]["param"] == "limit"


async def test_unknown_cursor_is_refused_when_paging(server: JobsServer) -> None:
    await server.put_job(JOB, {"job": {}})
    for path in ("/openai/v1/fine_tuning/jobs", f"{PATH}/events", f"{PATH}/checkpoints"):
        status, body, _ = await server.call("GET", f"{server.host()}{path}?after=nobody")
        assert status == 404
        assert "nobody" in body["error"]["message"]


def test_pages_stay_fast_when_a_job_has_100_000_events() -> None:
    pages = Pages.newest_first(_event(n) for n in range(99_999, -1, -1))
    started = time.process_time()
    for number in range(0, 99_900, 100):
        page = pages.page(f"ftevent-{number + 100}", 100)
        assert orjson.loads(page.items[-1])["id"] == f"ftevent-{number}"
    # 1,000 pages; looking for the cursor one by one would cost seconds.
    assert time.process_time() - started < 0.2
