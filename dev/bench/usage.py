"""CPU time and memory of another process.

CPU comes from the process's own clock where the system has one (Linux: nanoseconds, threads
that have ended included), because a tick takes less than the ten milliseconds psutil resolves.
"""

import asyncio
import contextlib
import sys
import time
from types import TracebackType
from typing import Self

import psutil

_SAMPLE_S = 0.02


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used so far. Raises OSError or psutil's error."""
    if sys.platform == "linux":
        # What clock_getcpuclockid(3) computes for a process.
        return time.clock_gettime((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Usage:
    """Measures a process while the block runs. Memory is sampled fifty times a second."""

    def __init__(self, pid: int) -> None:
        self.wall_s = self.cpu_s = 0.0
        self.peak_bytes = 0
        self._pid = pid
        self._process = psutil.Process(pid)
        self._sampler: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sample()
        self._sampler = asyncio.create_task(self._sampling())
        self._cpu, self._wall = cpu_s(self._pid), time.perf_counter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wall_s = time.perf_counter() - self._wall
        if self._sampler is not None:
            self._sampler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampler
        if error is None:
            self.cpu_s = cpu_s(self._pid) - self._cpu
            self._sample()

    async def _sampling(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
