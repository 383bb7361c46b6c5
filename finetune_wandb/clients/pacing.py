"""How fast the requests of one run may follow each other.

Source: facts/wandb.md 2.6 (W&B's published limits): two file_stream requests a second and run;
`RateLimit-Remaining` and `RateLimit-Reset` say when nothing is left of a project's share.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from finetune_wandb.clients.translate import parse_retry_after

_WINDOW_S: Final = 1.05
"""A second and what two clocks may differ by."""
_LONGEST_PAUSE_S: Final = 5.0
"""A longer pause belongs to the host's queue, not to a waiting function."""
_MOST_KNOWN: Final = 2000


class Pacing:
    """One per process. A run's first requests never wait."""

    def __init__(self, per_second: int = 2) -> None:
        self._per_second = per_second
        self._sent: dict[str, deque[float]] = {}
        self._free_at: dict[str, float] = {}

    async def turn(self, run: str, project: str) -> None:
        """Wait until a request to this run may be sent, and count it as sent."""
        while True:
            now = time.monotonic()
            sent = self._sent.setdefault(run, deque(maxlen=self._per_second))
            wait = self._free_at.get(project, 0.0) - now
            if len(sent) == self._per_second:
                wait = max(wait, sent[0] + _WINDOW_S - now)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        sent.append(now)
        if len(self._sent) > _MOST_KNOWN:
            self._forget(now)

    def heed(self, project: str, headers: Mapping[str, str]) -> None:
        """Take note of what an answer says of the project's share. Names are in lower case."""
        if "ratelimit-remaining" not in headers:
            return
        remaining = parse_retry_after(headers.get("ratelimit-remaining", ""))
        reset = parse_retry_after(headers.get("ratelimit-reset", ""))
        if remaining is not None and remaining < 1 and reset is not None and math.isfinite(reset):
            pause = min(reset, _LONGEST_PAUSE_S)
            self._free_at[project] = time.monotonic() + pause

    def _forget(self, now: float) -> None:
        self._sent = {run: sent for run, sent in self._sent.items() if now - sent[-1] < _WINDOW_S}
        self._free_at = {name: at for name, at in self._free_at.items() if at > now}
