"""Many finished jobs are brought to W&B by one call while the host is killed three times.

The full size (BACKFILL_JOBS=1000 BACKFILL_STEPS=200) takes some minutes; the usual one proves
the same with fewer jobs.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from dev.tools.demo.cloud import Json, until
from tests.e2e.driver import PROJECT, Driver, job_object, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

JOBS = int(os.environ.get("BACKFILL_JOBS", "120"))
STEPS = int(os.environ.get("BACKFILL_STEPS", "40"))
KILLS = 3
KILL_AFTER_S = max(0.7, JOBS / 300)
"""How long the host works between two kills."""
SLOW = {
    "service": "openai",
    "path_contains": "/events",
    "times": 1_000_000,
    "action": {"delay_s": 2},
}
ACCOUNT = "aoai-old"
PATIENCE_S = 60 + JOBS
DAY = 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    # No tick comes, no artifacts are logged: what is measured is the backfill.
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *", "ARTIFACTS": "off"}
    async with running(tmp_path_factory.mktemp("run"), host_env=quiet) as started:
        yield started


def old_job(number: int) -> Json:
    """Return a job of long ago: half of its values only in events, half only in the file."""
    job_id, start = f"ftjob-{number:05d}", int(time.time()) - (JOBS - number + 1) * DAY
    half = STEPS // 2
    events = [
        {
            "id": f"ftevent-{number}-{step}",
            "object": "fine_tuning.job.event",
            "created_at": start + step,
            "level": "info",
            "message": f"Step {step}",
            "type": "metrics",
            "data": {"step": step, "train_loss": number + step / 1000},
        }
        for step in range(1, half + 1)
    ]
    lines = [f"{step},{number + step / 1000}" for step in range(1, STEPS + 1)]
    return {
        "job": job_object(
            job_id,
            "succeeded",
            created_at=start,
            finished_at=start + STEPS,
            result_files=[f"file-result-{number}"],
        ),
        "events": events,
        "result_csv": "\n".join(["step,train_loss", *lines, ""]),
    }


async def put_jobs(driver: Driver, account: str) -> None:
    limit = asyncio.Semaphore(8)

    async def put(number: int) -> None:
        async with limit:
            await driver.put_job(account, f"ftjob-{number:05d}", **old_job(number))

    await asyncio.gather(*map(put, range(JOBS)))


async def back(driver: Driver, starts: int) -> bool | None:
    return True if driver.stack.host_starts > starts else None


async def watch(driver: Driver, resync_id: str) -> tuple[Json, list[tuple[int, int]]]:
    """Kill the host three times while it works; return the end and all counts."""
    seen: list[tuple[int, int]] = []
    kills = 0
    end = time.monotonic() + PATIENCE_S
    kill_at = 0.0
    while time.monotonic() < end:
        code, shown = await driver.app("GET", f"/api/resync/{resync_id}")
        assert code == 200, shown
        seen.append((shown["done"], shown["failed"]))
        if shown["total"] > 1 and not kill_at:
            kill_at = time.monotonic() + KILL_AFTER_S
        if kills < KILLS and kill_at and time.monotonic() > kill_at and shown["state"] != "done":
            starts = driver.stack.host_starts
            driver.stack.kill_host()
            kills += 1
            await until(partial(back, driver, starts), "the host does not come back", every=0.05)
            await driver.stack.wait_host()
            kill_at = time.monotonic() + KILL_AFTER_S
        if shown["state"] == "done":
            assert kills == KILLS
            return shown, seen
        await asyncio.sleep(0.2)
    raise AssertionError(f"not done after {PATIENCE_S} s: {seen[-1]} of {JOBS}")


async def test_each_value_comes_once_when_backfill_is_killed_three_times(driver: Driver) -> None:
    account = await driver.onboard(ACCOUNT)
    await put_jobs(driver, account)
    if JOBS < 500:
        # Few jobs would be done before the third kill.
        await driver.control("POST", "faults", SLOW)
    started = time.monotonic()
    code, taken = await driver.app(
        "POST", "/api/resync", {"scope": "account", "account": driver.account_id(account)}
    )
    assert code == 202
    shown, seen = await watch(driver, taken["id"])
    await driver.control("DELETE", "faults")
    print(f"{JOBS} jobs of {STEPS} steps in {time.monotonic() - started:.1f} s")
    assert (shown["total"], shown["done"], shown["failed"]) == (JOBS + 1, JOBS + 1, 0)
    assert seen == sorted(seen), "progress went backwards"
    for number in range(JOBS):
        run = await driver.run(f"{PROJECT}/ftjob-{number:05d}")
        assert run is not None, number
        values = [(row["step"], row["train_loss"]) for row in run["history"]]
        assert values == [(step, number + step / 1000) for step in range(1, STEPS + 1)]
        assert run["state"] == "finished"
        first = run["history"][0]["_timestamp"]
        assert abs(first - (time.time() - (JOBS - number + 1) * DAY)) < 2 * 3600


async def test_relayed_jobs_cost_one_listing_when_backfilled_again(driver: Driver) -> None:
    account = driver.account_id(ACCOUNT)
    states = (await driver.status())["totals"]["jobs_by_state"]
    # Their last look, at which W&B is asked for their ends, is due five minutes after the end.
    assert set(states) <= {"ending", "complete"}
    assert sum(states.values()) == JOBS
    await driver.forget_requests()
    code, shown = await driver.app(
        "POST",
        "/api/resync?wait=30",
        {"scope": "account", "account": account, "parts": ["jobs"]},
    )
    assert (code, shown["done"], shown["failed"]) == (200, shown["total"], 0)
    assert shown["items"][0]["results"][0]["jobs"] == JOBS
    assert await driver.requests("wandb") == []
    asked = await driver.requests("openai")
    assert sum(one["count"] for one in asked) == -(-JOBS // 100)
