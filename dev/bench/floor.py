"""The floor: recorded requests sent again by a bare aiohttp loop, in a process of its own.

It decides nothing and keeps nothing: whatever the app does beyond this is the app's own cost.

Run: python -m dev.bench.floor FILE CONCURRENCY; each line on standard input sends the file's
requests once, and one line of JSON tells how long that took.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL


async def replay(
    session: aiohttp.ClientSession, requests: list[dict[str, Any]], at_once: int
) -> dict[str, Any]:
    """Send every request once; return wall and CPU seconds, and the number that failed."""
    waiting = iter(requests)
    failed = 0
    wall, cpu = time.perf_counter(), time.process_time()

    async def worker() -> None:
        nonlocal failed
        for item in waiting:
            async with session.request(
                item["method"], item["url"], headers=item["headers"], data=item["data"]
            ) as answer:
                await answer.read()
                failed += not 200 <= answer.status < 300

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "failed": failed,
    }


async def _serve(requests: list[dict[str, Any]], at_once: int) -> None:
    for item in requests:
        item["data"] = item.pop("body").encode() or None
        item["url"] = URL(item["url"], encoded=True)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await replay(session, requests, at_once)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])))
