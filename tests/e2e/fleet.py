"""Many jobs that train at once, and what must be true of all their runs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from dev.tools.demo.cloud import Json
from dev.tools.demo.values import Published, compare
from tests.e2e.driver import Driver, job_object, metric_events, published_by, until

_PATIENCE = 40
"""Quarters of a second."""


class Fleet:
    """Jobs of one account. `step` is how far all of them have come."""

    def __init__(self, driver: Driver, account: str, size: int, prefix: str = "ftjob") -> None:
        self.driver = driver
        self._account = account
        self.jobs = [driver.new_name(f"{prefix}-fleet") for _ in range(size)]
        self.step = 0
        self._bodies: dict[str, Json] = {}
        self._values: dict[str, int] = {}
        """How many values of each job are published."""
        self._status = "running"

    async def advance(self, steps: int = 4, status: str = "running") -> None:
        """Publish so many more steps of every job."""
        first, self.step = self.step + 1, self.step + steps
        self._status = status

        async def one(job: str) -> None:
            events = self._bodies.get(job, {}).get("events", [])
            body = {"events": [*events, *metric_events(job, self.step, first)]}
            self._bodies[job] = body
            self._values[job] = len(self.expected(job))
            await self.driver.put_job(self._account, job, job=job_object(job, status), **body)

        await asyncio.gather(*(one(job) for job in self.jobs))

    def expected(self, job: str) -> Published:
        return published_by(self._bodies[job])

    async def shown(self) -> dict[str, Json]:
        """Return the jobs as /api/status shows them, by id."""
        wanted = set(self.jobs)
        return {
            job["id"]: job for job in (await self.driver.status())["jobs"] if job["id"] in wanted
        }

    async def all_relayed(self, seconds: float = 90) -> None:
        """Wait until every published value of every job is relayed and no error is left."""
        await all_relayed([self], seconds)

    def behind(self, shown: Mapping[str, Json]) -> list[str]:
        """Return the jobs that are not shown as relayed to where they have come."""
        return [
            job
            for job in self.jobs
            if job not in shown
            or shown[job]["values"] != self._values[job]
            or shown[job]["error"]
            or shown[job]["status"] != self._status
        ]

    async def all_parked(self, seconds: float = 60) -> None:
        """Wait until every job is set aside with a cause."""

        async def look() -> bool | None:
            shown = await self.shown()
            return True if all(shown[job]["state"] == "parked" for job in self.jobs) else None

        await until(look, "not all jobs are parked", seconds=seconds)

    async def check(self, entity: str = "sandbox-team") -> None:
        """Every published value is in its run exactly once. Fails with the first that is not."""
        project = f"{entity}/azure-openai-fine-tuning"
        for patience in range(_PATIENCE, -1, -1):
            runs = await asyncio.gather(*(self.driver.run(f"{project}/{job}") for job in self.jobs))
            assert None not in runs
            found = {
                job: compare(self.expected(job), run["history"])
                for job, run in zip(self.jobs, runs, strict=True)
                if run is not None
            }
            # The status counts a value once its request is saved, a moment before it is sent.
            if not patience or not any(one.missing for one in found.values()):
                break
            await asyncio.sleep(0.25)
        assert [(job, one) for job, one in found.items() if not one.exact] == []


async def all_relayed(fleets: Sequence[Fleet], seconds: float, every: float = 0.25) -> None:
    """Wait until all jobs of these fleets are relayed, with one question for all of them."""
    last: tuple[int, Any] = (0, None)

    async def look() -> bool | None:
        nonlocal last
        shown = {job["id"]: job for job in (await fleets[0].driver.status())["jobs"]}
        late = [job for fleet in fleets for job in fleet.behind(shown)]
        last = (len(late), shown.get(late[0]) if late else None)
        return None if late else True

    await until(
        look, lambda: f"{last[0]} jobs are behind, such as {last[1]}", seconds=seconds, every=every
    )
