"""Recording the app's requests, and sending them again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from dev.bench.stage import floor
from dev.bench.watch import Recorder

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
        Recorder(sandbox_url=sandbox_url, wandb_url=wandb_url) as recorder,
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
            result = await bare.run()

    assert bare.count == 2
    assert azure == [("GET", listing, "Bearer t", b"")]
    assert wandb == [("POST", "/files/e/p/r/file_stream", "Bearer t", b'{"files":{}}')]
    assert result["wall_s"] > 0
    assert result["cpu_s"] > 0


async def test_refused_requests_are_no_floor_when_replayed(tmp_path: Path) -> None:
    seen: Seen = []
    async with (
        _service(seen, status=500) as url,
        Recorder(sandbox_url=url, wandb_url=url) as recorder,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"{recorder.environ['WANDB_BASE_URL']}/x") as answer:
            assert answer.status == 500
        with pytest.raises(RuntimeError, match="1 of the floor's requests"):
            async with floor(recorder.requests, tmp_path):
                pass
