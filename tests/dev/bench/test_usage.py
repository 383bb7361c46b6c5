"""CPU time and memory of another process."""

import asyncio
import sys

from dev.bench.watch import cpu_s, measured

WORK = "import sys; sys.stdin.readline(); b = bytearray(60_000_000); sum(range(3_000_000)); print(1, flush=True); sys.stdin.readline()"


async def test_work_is_seen_when_another_process_does_it() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORK),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with measured(process.pid) as usage:
            process.stdin.write(b"\n")
            await process.stdout.readline()
        before = cpu_s(process.pid)
    finally:
        process.stdin.close()
        await process.wait()

    assert 0.005 < usage.cpu_s <= before
    assert usage.peak_bytes > 60_000_000
    assert usage.wall_s > 0
