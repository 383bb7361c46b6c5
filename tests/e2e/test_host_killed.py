"""The host is killed at random moments while a job trains: nothing is lost, nothing doubled."""

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dev.tools.demo.api import FineTuning
from tests.e2e.driver import ENDED, Driver, until

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

KILLS = 10


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(driver: Driver) -> AsyncIterator[FineTuning]:
    account = FineTuning(driver.endpoint(await driver.onboard()))
    yield account
    await account.close()


async def assert_exact(driver: Driver, api: FineTuning, job_id: str, about: str) -> None:
    """Hold the run of a job that has ended against everything its API publishes."""
    await driver.job_in(job_id, ENDED, seconds=90)
    expected = await api.read_published(job_id)
    assert len(expected) > 100
    found = await driver.compared(job_id, expected)
    assert (found.missing, found.duplicate, found.unexpected) == ([], [], []), about
    run = await driver.run_of(job_id)
    assert (run["state"], run["summary"]["status"]) == ("finished", "succeeded")


async def test_each_value_is_there_once_when_the_host_was_killed_ten_times(
    driver: Driver, api: FineTuning
) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(2**31))
    print(f"KILL_SEED={seed}")
    moments = random.Random(seed)
    # Long enough to train through all ten kills; hurried at their end.
    await driver.control("PUT", "simulator", {"seconds_per_step": 0.3})
    job_id = await api.start_job(epochs=14)
    for _ in range(KILLS):
        await asyncio.sleep(moments.uniform(0.0, 1.5))
        assert await api.read_status(job_id) not in ("succeeded", "failed")
        await driver.kill_host()
    await driver.control("PUT", "simulator", {"seconds_per_step": 0.005})
    await assert_exact(driver, api, job_id, f"KILL_SEED={seed}")


async def test_each_value_is_there_once_when_the_host_dies_after_sending_and_before_noting_it(
    driver: Driver, api: FineTuning
) -> None:
    await driver.control("PUT", "simulator", {"seconds_per_step": 0.1})
    job_id = await api.start_job(epochs=6)
    for _ in range(3):
        # The write takes effect and its answer is lost, again and again: nothing is noted.
        fault = {"service": "wandb", "path_contains": "file_stream", "action": {"drop": "after"}}
        await driver.control("POST", "faults", fault)

        async def hit() -> bool | None:
            (only,) = await driver.control("GET", "faults")
            return True if only["hits"] else None

        await until(hit, "nothing was sent", seconds=20, every=0.02)
        await driver.kill_host()
        await driver.control("DELETE", "faults")
    await assert_exact(driver, api, job_id, "died between sending and noting")
