"""The host is killed with the lease of the real one: no work waits ten minutes for it."""

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, Json, running, until

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

LEASE_S = 600.0
COST_S = 120.0
"""What a crash may cost."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("run"), lease=LEASE_S) as started:
        await started.key_accepted()
        yield started


async def killed_at(driver: Driver, service: str, path: str) -> None:
    """Kill the host while it waits for an answer that does not come."""
    fault = {"service": service, "path_contains": path, "action": {"delay_s": 30}}
    await driver.control("POST", "faults", fault)


async def met(driver: Driver) -> None:
    async def look() -> bool | None:
        (only,) = await driver.control("GET", "faults")
        return True if only["hits"] else None

    await until(look, "nothing was asked", seconds=20, every=0.02)
    await driver.kill_host()
    await driver.control("DELETE", "faults")


async def test_onboarding_goes_on_when_the_host_was_killed_in_the_middle(driver: Driver) -> None:
    name = driver.new_name("aoai")
    await killed_at(driver, "arm", name)
    await driver.put_account(name)
    await met(driver)
    began = time.monotonic()
    await driver.healthy(name, seconds=COST_S)
    assert time.monotonic() - began < COST_S


async def test_resync_goes_on_when_the_host_was_killed_in_the_middle(driver: Driver) -> None:
    name = await driver.onboard()
    await killed_at(driver, "arm", name)
    _, started = await driver.app("POST", "/api/resync", {"scope": "all"})
    await met(driver)

    async def look() -> Json | None:
        shown: Json
        _, shown = await driver.app("GET", f"/api/resync/{started['id']}")
        return shown if shown["state"] == "done" else None

    done = await until(look, "the re-sync did not end", seconds=COST_S)
    assert done["failed"] == 0
