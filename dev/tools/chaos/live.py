"""Watches a batch while its jobs run: what Azure published has to be in its run soon.

A value is late where W&B does not have it PATIENCE_S after it was published, in a time without
faults and weather, and /api/status names no cause for its job, its account or its key.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dev.tools.chaos.plan import CALM_S, SPAN_S, JobPlan, Json, Plan
from dev.tools.chaos.stage import PROJECT, TICK_S, Stage
from dev.tools.demo.values import Published, compare

PATIENCE_S: Final = 2 * TICK_S + 3
"""Two ticks begin and end in this time, on a busy machine too."""
_SET_ASIDE: Final = ("parked", "detached", "skipped")


@dataclass(slots=True)
class Feed:
    """What the sandbox shows of one job so far."""

    shown: list[tuple[float, Published]] = field(default_factory=list)
    """(monotonic seconds, all values published by then), in order."""
    is_over: bool = False


@dataclass(slots=True)
class Seen:
    """What came of watching a batch."""

    checked: int = 0
    """Values that were found in their runs while their jobs went on."""
    causes: dict[str, str] = field(default_factory=dict)
    """By job: the latest cause in the status."""
    late: dict[str, str] = field(default_factory=dict)
    """By job: what was late."""
    late_values: int = 0


class Watch:
    """Of one batch. The player fills `feeds`."""

    def __init__(
        self, stage: Stage, plans: list[Plan], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.feeds: dict[str, Feed] = {}
        self.seen = Seen()
        self._stage = stage
        self._clock = clock
        self._jobs = [
            (plan, job) for plan in plans for job in plan.jobs if job.ends and plan.fate.is_live
        ]
        self._calm: dict[str, float] = {}
        """Since when nothing keeps a job's values from its run."""
        self._proved: dict[str, int] = {}

    async def run(self) -> None:
        """Look once a second, from the end of faults and weather to the end of the stories."""
        end = self._clock() + SPAN_S + CALM_S
        await asyncio.sleep(SPAN_S)
        await self._stage.until_host_is_up()
        self.begin()
        while self._clock() < end:
            await asyncio.sleep(1)
            await self.look()

    def begin(self) -> None:
        """Faults and weather are over."""
        self._calm = dict.fromkeys((job.id for _, job in self._jobs), self._clock())

    async def look(self) -> None:
        """Compare what was published with what W&B has, where the status names no cause."""
        status = await self._stage.status()
        shown = {(item["account"], item["id"]): item for item in status["jobs"]}
        for plan, job in self._jobs:
            account = self._stage.account_id(plan.account).lower()
            row = shown.get((account, job.id))
            if cause := cause_of(account, plan.secret, row, status):
                self._calm[job.id] = self._clock()
                self.seen.causes[job.id] = cause
            elif job.id not in self.seen.late:
                await self._compare(job, row)

    async def _compare(self, job: JobPlan, shown: Json | None) -> None:
        now, feed = self._clock(), self.feeds.get(job.id, Feed())
        due = [values for at, values in feed.shown if now - at >= PATIENCE_S]
        if feed.is_over or now - self._calm[job.id] < PATIENCE_S:
            return
        if len(due) <= self._proved.get(job.id, 0) or not due[-1]:
            return
        run = await self._stage.run((shown and shown["run"]) or f"{PROJECT}/{job.id}")
        missing = compare(due[-1], run["history"] if run else ()).missing
        if not missing:
            self._proved[job.id] = len(due)
            self.seen.checked += len(due[-1])
        elif not feed.is_over:
            self.seen.late_values += len(missing)
            self.seen.late[job.id] = (
                f"{job.id}: {len(missing)} values late while it runs, such as {missing[:3]}"
            )


def cause_of(account: str, secret: str, shown: Json | None, status: Json) -> str:
    """Return the cause in the status why values of a job may not be in W&B yet, or nothing.

    `account` is its ARM id in lower case, `shown` the job as the status has it.
    """
    if shown and (shown["error"] or shown["state"] in _SET_ASIDE):
        return shown["error"] or shown["state"]
    entry = next((one for one in status["accounts"] if one["id"].lower() == account), None)
    if entry is None:
        return "the account is not known yet"
    if not entry["in_scope"]:
        return "the account is not in scope"
    if not entry["healthy"]:
        return "; ".join(finding["cause"] for finding in entry["findings"]) or "not healthy"
    key = next((one for one in status["keys"] if one["secret"] == secret), None)
    if key is None or not key["version"] or key["refused_at"]:
        return "no key in use"
    subjects = {account, shown["id"] if shown else ""}
    problems = (item for item in status["problems"] if item["subject"].lower() in subjects)
    return next((str(item["cause"]) for item in problems), "")
