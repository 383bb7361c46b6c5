"""Recording the app's requests, sending them again, and what the floor makes of the answers."""

import base64
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from dev.bench import data
from dev.bench.floor import Job, add_checkpoints, add_events, add_result, body_of, transaction
from dev.bench.report import WorkMissingError
from dev.bench.stage import floor
from dev.bench.watch import recording

Seen = list[tuple[str, str, str, bytes]]


@asynccontextmanager
async def _service(seen: Seen, status: int = 200) -> AsyncIterator[str]:
    """Run a service that notes method, path with query, authorisation and body."""

    async def handle(request: web.BaseRequest) -> web.Response:
        authorisation = request.headers.get("Authorization", "")
        seen.append((request.method, request.raw_path, authorisation, await request.read()))
        return web.Response(status=status, text='{"ok": true}')

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_same_bytes_are_sent_again_when_replayed(tmp_path: Path) -> None:
    azure: Seen = []
    wandb: Seen = []
    async with (
        _service(azure) as sandbox_url,
        _service(wandb) as wandb_url,
        recording(sandbox_url=sandbox_url, wandb_url=wandb_url) as recorder,
        aiohttp.ClientSession(headers={"Authorization": "Bearer t"}) as http,
    ):
        through = recorder.environ
        listing = "/_host/a.openai.azure.com/openai/v1/fine_tuning/jobs?limit=100&after=x%2Fy"
        # As it stands: aiohttp would rewrite what it thinks needs no escape.
        url = URL(f"{through['SANDBOX_URL']}{listing}", encoded=True)
        async with http.get(url) as answer:
            assert await answer.json(content_type=None) == {"ok": True}
        async with http.get(f"{through['SANDBOX_URL']}/_host/management.azure.com/x") as answer:
            assert answer.status == 200
        stream = f"{through['WANDB_BASE_URL']}/files/e/p/r/file_stream"
        async with http.post(stream, data=b'{"files":{}}') as answer:
            assert answer.status == 200
        azure.clear()
        wandb.clear()

        async with floor(recorder.requests, tmp_path) as bare:
            azure.clear()
            wandb.clear()
            result = await bare.bare()

    assert bare.count == 2
    assert azure == [("GET", listing, "Bearer t", b"")]
    assert wandb == [("POST", "/files/e/p/r/file_stream", "Bearer t", b'{"files":{}}')]
    assert result["wall_s"] > 0
    assert result["cpu_s"] > 0


async def test_refused_requests_are_no_floor_when_replayed(tmp_path: Path) -> None:
    seen: Seen = []
    async with (
        _service(seen, status=500) as url,
        recording(sandbox_url=url, wandb_url=url) as recorder,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{recorder.environ['WANDB_BASE_URL']}/x") as answer:
            assert answer.status == 500
        with pytest.raises(WorkMissingError, match="refused: 1 of 0"):
            async with floor(recorder.requests, tmp_path):
                pass


def _page(items: list[dict[str, object]]) -> bytes:
    return orjson.dumps({"data": items})


def test_rows_hold_what_was_published_when_a_job_is_over() -> None:
    rows: dict[int, dict[str, float]] = {}
    add_events(rows, _page(data.metric_events("job", 30, 21)), 0)
    add_events(rows, _page(data.metric_events("job", 20, 11)), 0)
    add_checkpoints(rows, _page(data.checkpoints("job", 30)))
    add_result(rows, data.result_csv(30).encode())

    made = {(step, name): {value} for step, row in rows.items() for name, value in row.items()}
    assert made == data.all_values(30)


def test_only_new_rows_are_sent_when_a_job_runs() -> None:
    job, first, second = Job("ftjob-1", "a"), {}, {}
    add_events(first, _page(data.metric_events("job", 30)), job.last_step)
    body_of(job, first)
    add_events(second, _page(data.metric_events("job", 33)), job.last_step)

    sent = orjson.loads(body_of(job, second))["files"]["wandb-history.jsonl"]

    assert sent["offset"] == 30
    assert [orjson.loads(line)["step"] for line in sent["content"]] == [31, 32, 33]
    assert job.rows == 33


def test_outbox_fits_into_columns_when_it_is_long() -> None:
    text = "".join(str(number) for number in range(40_000)).encode()
    body = transaction("http://t/floor", [Job("ftjob-1", "a")], [text])

    start = body.index(b"{")
    row = orjson.loads(body[start : body.rindex(b"}") + 1])
    columns = [row[name] for name in row if name.startswith("outbox") and "@" not in name]
    assert len(columns) > 1
    assert zlib.decompress(b"".join(map(base64.b64decode, columns))) == text
    assert max(map(len, columns)) <= 64 * 1024 * 4 / 3
