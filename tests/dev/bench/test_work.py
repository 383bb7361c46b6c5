"""A benchmark ends with an error when its work was not all done."""

from typing import Any, cast

import pytest

from dev.bench import backfill, data, growth, idle_tick, live_tick, report
from dev.bench.report import WorkMissingError
from dev.bench.stage import PROJECT, Stage

STEPS = 20


def rows(last: int = STEPS) -> list[dict[str, Any]]:
    return [{"_step": step, "step": step, **data.values_at(step)} for step in range(1, last + 1)]


class Place:
    """W&B and the status as a benchmark sees them: one run, one job."""

    def __init__(self, history: list[dict[str, Any]], **run: Any) -> None:
        self._run = {"state": "finished", "artifacts_logged": ["a"], **run, "history": history}

    async def run(self, path: str) -> dict[str, Any] | None:
        return self._run if path == f"{PROJECT}/ftjob-1" else None

    async def shown_job(self, job: str) -> dict[str, Any] | None:
        history = self._run["history"]
        return {"last_step": history[-1]["step"], "values": data.values_in(history)}


def place(history: list[dict[str, Any]], **run: Any) -> Stage:
    return cast("Stage", Place(history, **run))


LESS = [
    pytest.param(place(rows(STEPS - 1)), id="a step"),
    pytest.param(place([rows()[0] | {"train_loss": 0}, *rows()[:-1]]), id="a step, one doubled"),
    pytest.param(
        place([*rows()[:-1], {"_step": STEPS, "step": STEPS, "train_loss": 1.0}]), id="a value"
    ),
    pytest.param(place([*rows(), rows()[-1]]), id="doubled"),
]


@pytest.mark.parametrize(
    "less",
    [
        *LESS,
        pytest.param(place(rows(), state="running"), id="its end"),
        pytest.param(place(rows(), artifacts_logged=[]), id="its artifacts"),
    ],
)
async def test_backfill_is_an_error_when_a_run_lacks_something(less: Stage) -> None:
    await backfill.check_runs(place(rows()), PROJECT, ["ftjob-1"], STEPS, artifacts=True)
    with pytest.raises(WorkMissingError):
        await backfill.check_runs(less, PROJECT, ["ftjob-1"], STEPS, artifacts=True)
    with pytest.raises(WorkMissingError, match="missing of finished"):
        await backfill.check_runs(place(rows()), PROJECT, ["ftjob-2"], STEPS)


@pytest.mark.parametrize("less", LESS)
async def test_live_tick_is_an_error_when_a_value_is_not_in_the_run(less: Stage) -> None:
    await live_tick.check(place(rows()), [("a", "ftjob-1")], STEPS)
    with pytest.raises(WorkMissingError, match="values in W&B"):
        await live_tick.check(less, [("a", "ftjob-1")], STEPS)


@pytest.mark.parametrize("less", LESS)
async def test_growth_is_an_error_when_a_job_is_not_relayed_whole(less: Stage) -> None:
    await growth.check(place(rows()), "ftjob-1", STEPS)
    with pytest.raises(WorkMissingError):
        await growth.check(less, "ftjob-1", STEPS)


@pytest.mark.parametrize(("requests", "messages"), [(99, 0), (100, 1)])
def test_idle_tick_is_an_error_when_an_account_is_not_listed(requests: int, messages: int) -> None:
    idle_tick.check(100, 0, 100)
    with pytest.raises(WorkMissingError):
        idle_tick.check(requests, messages, 100)


def test_missing_work_is_named_when_it_is_an_error() -> None:
    with pytest.raises(WorkMissingError, match="accounts healthy: 3 of 4"):
        report.require("accounts healthy", 3, 4)
