"""A result file is streamed: memory does not grow with it. `LARGE_FILE_MB=100` for a large one."""

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from dev.sandbox.server import serve

ROOT = Path(__file__).parents[3]
MB = 1024 * 1024
SIZE = int(os.environ.get("LARGE_FILE_MB", "8")) * MB
SMALL = MB
"""Enough for several requests: buffers have their size before the large file comes."""
ROOM = 6 * MB
"""What the peak may vary by, whatever the file's size. Held whole, 8 MB would be several times that."""
_ROWS = 2000


class Services:
    """Azure and W&B in one, which keep nothing: result files are made as they are read."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.sent = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.endswith("/content"):
            return await self._file(request, SMALL if "small" in path else SIZE)
        if path.endswith("/graphql"):
            sent = orjson.loads(await request.read())
            if sent["query"].startswith("query"):
                return web.json_response({"data": {"model": {"bucket": None}}})
            asked = sent["variables"]
            project = {"name": asked["project"], "entity": {"name": asked["entity"]}}
            bucket = {"id": "x", "name": asked["name"], "project": project}
            return web.json_response(
                {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
            )
        if path.endswith("/file_stream"):
            files = orjson.loads(await request.read())["files"]
            lines = files.get("wandb-history.jsonl", {}).get("content", ())
            self.rows[path.split("/")[-2]] += len(lines)
            return web.json_response({})
        return web.json_response({"data": [], "has_more": False})

    async def _file(self, request: web.BaseRequest, size: int) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        data = b"step,train_loss,train_accuracy,valid_loss\n"
        sent = last = 0
        while sent < size:
            lines = []
            for step in range(last + 1, last + 1 + _ROWS):
                valid = f"{7.1 / step:.15f}" if step % 10 == 0 else ""
                lines.append(f"{step},{3.3 / step:.15f},{1 - 0.7 / step:.15f},{valid}\n")
            data += "".join(lines).encode()
            await answer.write(data)
            sent, last, data = sent + len(data), last + _ROWS, b""
        self.sent += last if size == SIZE else 0
        return answer


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux")
async def test_memory_stays_as_it_is_when_a_result_file_is_large() -> None:
    services = Services()
    runner = await serve(services.handle, 0)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.relay.large_file", url),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    await runner.cleanup()
    found = json.loads(out)
    # Shown with -s: the figures of docs/performance.md.
    print(f"{SIZE // MB} MB, {services.sent:,} lines: {found}")
    assert found["errors"] == ["", ""]
    assert services.rows["large"] == services.sent
    assert found["peak_growth"] < ROOM
