"""file_stream of the W&B stand-in: rows by offset, streams, states, limits."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dev.sandbox.wandb import runs
from dev.sandbox.wandb.store import hub
from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, KEY, WandbServer, basic, wandb_server


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


def row(step: int, **values: Any) -> str:
    return json.dumps({"_step": step, **values})


async def test_rows_converge_when_the_same_offset_is_sent_again(server: WandbServer) -> None:
    await server.upsert("r")
    await server.rows("r", 0, row(0), row(1), row(2))
    before = await server.shown("r")
    await server.rows("r", 1, row(1), row(2), row(3))
    assert before["history"] == [{"_step": 0}, {"_step": 1}, {"_step": 2}]
    after = await server.shown("r")
    assert [r["_step"] for r in after["history"]] == [0, 1, 2, 3]
    assert after["posts"] == 2


async def test_row_is_replaced_when_its_offset_brings_another_one(server: WandbServer) -> None:
    await server.upsert("r")
    await server.rows("r", 0, row(0, loss=1), row(1, loss=1))
    assert (await server.shown("r"))["summary"]["loss"] == 1
    await server.rows("r", 1, row(1, loss=7))
    shown = await server.shown("r")
    assert [r["loss"] for r in shown["history"]] == [1, 7]
    assert shown["summary"]["loss"] == 7


async def test_rows_are_renumbered_when_earlier_ones_are_missing(server: WandbServer) -> None:
    await server.upsert("r")
    await server.rows("r", 0, row(0), row(1))
    await server.rows("r", 5, row(5))
    await server.rows("r", 2, row(2), row(3))
    assert [r["_step"] for r in (await server.shown("r"))["history"]] == [0, 1, 2, 3]


async def test_rows_stay_at_their_offset_when_gaps_are_kept(server: WandbServer) -> None:
    await server.control("PUT", "settings", {"gaps": "keep", "counter_lag_s": 0})
    run = await server.upsert("r")
    await server.rows("r", 5, row(5))
    assert [r["_step"] for r in (await server.shown("r"))["history"]] == [5]
    run = await server.upsert("r")
    assert run["bucket"]["historyLineCount"] == 6
    await server.rows("r", 2, row(2))
    assert [r["_step"] for r in (await server.shown("r"))["history"]] == [2, 5]


async def test_lines_of_the_console_are_rewritten_when_sent_again(server: WandbServer) -> None:
    await server.upsert("r")
    for offset, lines in ((0, ["a", "b 10%"]), (1, ["b 20%", "c"])):
        files = {"output.log": {"offset": offset, "content": lines}}
        assert (await server.stream("r", {"files": files}))[0] == 200
    assert (await server.shown("r"))["output"] == ["a", "b 20%", "c"]


async def test_summary_is_the_last_line_sent_when_history_says_otherwise(
    server: WandbServer,
) -> None:
    await server.upsert("r")
    await server.rows("r", 0, row(0, loss=1, acc=2), row(1, loss=3))
    assert (await server.shown("r"))["summary"] == {"_step": 1, "loss": 3, "acc": 2}
    files = {"wandb-summary.json": {"offset": 0, "content": ['{"best": 9}']}}
    await server.stream("r", {"files": files})
    assert (await server.shown("r"))["summary"] == {"best": 9}


async def test_numbers_survive_when_json_cannot_hold_them(server: WandbServer) -> None:
    await server.upsert("r")
    line = '{"_step": 0, "a": NaN, "b": [-Infinity], "c": 9007199254740993, "d": {"e": Infinity}}'
    huge = f'{{"_step": 1, "a": NaN, "f": 1{"0" * 30}}}'
    await server.rows("r", 0, line, huge)
    assert (await server.shown("r"))["history"] == [
        {"_step": 0, "a": "NaN", "b": ["-Infinity"], "c": 9007199254740993, "d": {"e": "Infinity"}},
        {"_step": 1, "a": "NaN", "f": 1e30},
    ]


@pytest.mark.parametrize(
    ("body", "state", "exitcode"),
    [
        ({}, "running", None),
        ({"complete": True, "exitcode": 0}, "finished", 0),
        ({"complete": True}, "finished", 0),
        ({"complete": True, "exitcode": 1}, "failed", 1),
        ({"exitcode": 1}, "running", None),
        ({"preempting": True}, "preempting", None),
        ({"preempting": True, "complete": True, "exitcode": 1}, "preempted", 1),
        ({"preempting": True, "complete": True, "exitcode": 0}, "finished", 0),
    ],
    ids=json.dumps,
)
async def test_state_follows_what_a_post_says_when_it_ends_or_not(
    server: WandbServer, body: dict[str, Any], state: str, exitcode: int | None
) -> None:
    await server.upsert("r", state="pending")
    assert (await server.shown("r"))["state"] == "pending"
    await server.stream("r", body)
    shown = await server.shown("r")
    assert (shown["state"], shown["exitcode"]) == (state, exitcode)


async def test_run_comes_back_to_life_when_a_post_follows_its_end(server: WandbServer) -> None:
    await server.upsert("r")
    await server.stream("r", {"complete": True, "exitcode": 1})
    await server.stream("r", {})
    shown = await server.shown("r")
    assert (shown["state"], shown["exitcode"]) == ("running", None)


async def test_run_has_crashed_when_it_stays_silent(server: WandbServer) -> None:
    for name, body in {
        "silent": {},
        "ended": {"complete": True},
        "leaving": {"preempting": True},
    }.items():
        await server.upsert(name)
        await server.stream(name, body)
    await server.upsert("waiting", state="pending")
    assert (await server.shown("silent"))["state"] == "running"
    await server.control("PUT", "settings", {"silence_s": 0.05})
    await asyncio.sleep(0.1)
    states = [(await server.shown(n))["state"] for n in ("silent", "ended", "leaving", "waiting")]
    assert states == ["crashed", "finished", "preempted", "pending"]
    await server.control("PUT", "settings", {"silence_s": 300})
    await server.stream("silent", {})
    assert (await server.shown("silent"))["state"] == "running"


async def test_answer_says_stopped_when_somebody_pressed_stop(server: WandbServer) -> None:
    run = await server.upsert("r")
    status, answer = await server.stream("r", {})
    assert (status, answer["stopped"]) == (200, False)
    assert answer["limits"]["rate_limit"]
    await server.control("POST", f"runs/{ENTITY}/proj/r/stop")
    assert (await server.stream("r", {}))[1]["stopped"] is True
    assert (await server.stream("r", {"complete": True}))[1]["stopped"] is True
    await server.graphql(
        "mutation S($id: ID!) { stopRun(input: {id: $id}) { success } }", id=run["bucket"]["id"]
    )
    # Stopping what has ended has no effect.
    assert (await server.stream("r", {}))[1]["stopped"] is False


async def test_body_is_read_when_it_is_gzipped(server: WandbServer) -> None:
    await server.upsert("r")
    body = {"files": {"wandb-history.jsonl": {"offset": 0, "content": [row(0)] * 1000}}}
    status, _ = await server.call(
        "POST",
        f"/files/{ENTITY}/proj/r/file_stream",
        gzip.compress(json.dumps(body).encode()),
        **{"Content-Encoding": "gzip"},
    )
    assert status == 200
    assert len((await server.shown("r"))["history"]) == 1000


async def test_run_is_found_when_its_names_are_escaped(server: WandbServer) -> None:
    project, name = "projét 1", "rün a+b%"
    await server.upsert(name, modelName=project)
    path = f"{ENTITY}/proj%C3%A9t%201/r%C3%BCn%20a%2Bb%25"
    status, _ = await server.call("POST", f"/files/{path}/file_stream", {"complete": True})
    assert status == 200
    status, shown = await server.call("GET", f"/_sandbox/wandb/runs/{path}", key=None)
    assert (status, shown["state"]) == (200, "finished")
    assert await server.control("GET", "runs") == [f"{ENTITY}/{project}/{name}"]


async def test_run_is_unknown_when_nobody_created_it(server: WandbServer) -> None:
    assert (await server.stream("none", {}))[0] == 404
    status, _ = await server.call("GET", f"/_sandbox/wandb/runs/{ENTITY}/proj/none", key=None)
    assert status == 404


HISTORY = "wandb-history.jsonl"


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        {"files": []},
        {"files": {HISTORY: []}},
        {"files": {HISTORY: {"offset": -1, "content": []}}},
        {"files": {HISTORY: {"offset": 10**12, "content": ["{}"]}}},
        {"files": {HISTORY: {"offset": 0, "content": [{"a": 1}]}}},
        {"files": {HISTORY: {"offset": 0, "content": ["[1]"]}}},
        {"files": {"wandb-summary.json": {"offset": 0, "content": ["{oops"]}}},
        {"complete": True, "exitcode": "one"},
    ],
    ids=str,
)
async def test_post_changes_nothing_when_it_is_malformed(server: WandbServer, body: Any) -> None:
    await server.upsert("r", state="pending")
    if isinstance(body, dict) and isinstance(body.get("files"), dict):
        body["files"] = {"output.log": {"offset": 0, "content": ["line"]}, **body["files"]}
    status, answer = await server.stream("r", body)
    assert status == 400, answer
    shown = await server.shown("r")
    assert (shown["state"], shown["history"], shown["output"], shown["posts"]) == (
        "pending",
        [],
        [],
        0,
    )


async def test_post_is_put_off_when_a_run_sends_too_many(server: WandbServer) -> None:
    await server.control("PUT", "settings", {"file_stream_per_run_per_s": 2})
    await server.upsert("a")
    await server.upsert("b")
    assert [(await server.stream("a", {}))[0] for _ in range(3)] == [200, 200, 429]
    headers = {"Authorization": basic(KEY)}
    url = f"{server.url}/files/{ENTITY}/proj/a/file_stream"
    async with server.session.post(url, json={}, headers=headers) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert (await server.stream("b", {}))[0] == 200
    assert (await server.shown("a"))["posts"] == 2
    await asyncio.sleep(1.0)
    assert (await server.stream("a", {}))[0] == 200


async def test_posts_stay_cheap_when_the_history_is_long(server: WandbServer) -> None:
    await server.upsert("r")
    service = hub(server.world)
    service.settings.counter_lag_s = 0
    key = service.keys.authenticate(KEY)
    rows = [row(i, at=i, loss=0.5, acc=i / 3) for i in range(100_000)]
    bodies = [
        json.dumps(
            {"files": {HISTORY: {"offset": start, "content": rows[start : start + 1000]}}}
        ).encode()
        for start in range(0, len(rows), 1000)
    ]
    started = time.process_time()
    for body in bodies:
        runs.take_post(service, key, (ENTITY, "proj", "r"), body)
    # About 0.5 ms each; the bound leaves room for a busy machine.
    assert (time.process_time() - started) / len(bodies) < 0.005
    started = time.process_time()
    query = """query Q($n: String!) { project(name: "proj") { run(name: $n) {
        historyLineCount history(minStep: 50000, maxStep: 50003) } } }"""
    run = (await server.graphql(query, n="r"))["project"]["run"]
    assert run["historyLineCount"] == 100_000
    assert [json.loads(line)["at"] for line in run["history"]] == [50000, 50001, 50002]
    assert time.process_time() - started < 3


async def test_silent_run_is_killed_when_it_was_to_stop(server: WandbServer) -> None:
    now = 1000.0
    hub(server.world).clock = lambda: now
    for name in ("stopped", "silent"):
        await server.upsert(name)
        await server.stream(name, {})
    await server.control("POST", f"runs/{ENTITY}/proj/stopped/stop")
    assert (await server.stream("stopped", {}))[1]["stopped"] is True
    now += 301
    states = [(await server.shown(name))["state"] for name in ("stopped", "silent")]
    assert states == ["killed", "crashed"]
