"""Values that are late while their job runs are named, unless the status has the cause."""

from dataclasses import replace
from typing import Any

import pytest

from dev.tools.chaos.live import PATIENCE_S, Feed, Watch
from dev.tools.chaos.plan import Fate, make_plan

ACCOUNT = "/subscriptions/s/accounts/aoai"
PLAN = replace(make_plan(3, 0, 1.7e9), fate=Fate.NONE)
JOB = replace(PLAN.jobs[0], id="ftjob-x", ends=True)
VALUES = {(1, "train_loss"): {0.5}}


class Stage:
    """A stage on which one job runs well."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rows: list[dict[str, Any]] = []
        self.job = {"account": ACCOUNT, "id": JOB.id, "state": "live", "error": "", "run": "e/p/r"}
        self.account = {"id": ACCOUNT, "in_scope": True, "healthy": True, "findings": []}
        self.key = {"secret": PLAN.secret, "version": "v1", "refused_at": None}
        self.problems: list[dict[str, Any]] = []
        self.watch = Watch(self, [replace(PLAN, jobs=(JOB,))], lambda: self.now)  # type: ignore[arg-type]
        self.watch.begin()
        self.feed = self.watch.feeds[JOB.id] = Feed([(self.now, VALUES)])

    def account_id(self, name: str) -> str:
        assert name == PLAN.account
        return ACCOUNT

    async def status(self) -> dict[str, Any]:
        return {
            "jobs": [self.job],
            "accounts": [self.account],
            "keys": [self.key],
            "problems": self.problems,
        }

    async def run(self, path: str) -> dict[str, Any]:
        assert path == self.job["run"]
        return {"history": self.rows}

    async def look(self, after_s: float) -> tuple[int, int]:
        """Let time pass and look; return how many values were found and how many are late."""
        self.now += after_s
        await self.watch.look()
        return self.watch.seen.checked, self.watch.seen.late_values


async def test_value_is_late_when_it_is_not_in_the_run_in_time() -> None:
    stage = Stage()
    assert await stage.look(PATIENCE_S - 1) == (0, 0)
    assert await stage.look(1) == (0, 1)
    assert JOB.id in stage.watch.seen.late


async def test_value_is_found_once_when_it_is_in_the_run() -> None:
    stage = Stage()
    stage.rows.append({"step": 1, "train_loss": 0.5})
    assert await stage.look(PATIENCE_S) == (1, 0)
    assert await stage.look(1) == (1, 0)


async def test_value_is_not_late_when_its_job_is_over() -> None:
    stage = Stage()
    stage.feed.is_over = True
    assert await stage.look(PATIENCE_S) == (0, 0)


CAUSES: dict[str, Any] = {
    "a failed pass": ("job", {"error": "W&B is away"}),
    "a parked job": ("job", {"state": "parked"}),
    "an account that does not work": ("account", {"healthy": False}),
    "an account out of scope": ("account", {"in_scope": False}),
    "a refused key": ("key", {"refused_at": "2026-11-24T00:00:00Z"}),
    "no key": ("key", {"version": ""}),
    "a list that cannot be read": ("problems", [{"subject": ACCOUNT, "cause": "503"}]),
}


@pytest.mark.parametrize(("what", "change"), CAUSES.values(), ids=CAUSES)
async def test_value_has_its_time_again_when_the_status_had_a_cause(what: str, change: Any) -> None:
    stage = Stage()
    before = getattr(stage, what)
    setattr(stage, what, before | change if isinstance(before, dict) else change)
    assert await stage.look(PATIENCE_S) == (0, 0)
    assert stage.watch.seen.causes[JOB.id]
    setattr(stage, what, before)
    assert await stage.look(PATIENCE_S - 1) == (0, 0)
    assert await stage.look(1) == (0, 1)
