"""The key changes while jobs train: no restart, no gap, and never a key that was not proved."""

from hashlib import sha256

import pytest
import pytest_asyncio

from tests.e2e.driver import (
    ENDED,
    KEY,
    Driver,
    job_object,
    metric_events,
    published_by,
    until,
)

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

NEXT_KEY = "wandb_v1_" + "b" * 77
REVOKED_KEY = "wandb_v1_" + "c" * 77


def mark(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:12]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def account(driver: Driver) -> str:
    return await driver.onboard()


async def newest_is(driver: Driver, version: str) -> dict[str, str]:
    """Wait until the app has looked at a version; return the key as shown."""

    async def look() -> dict[str, str] | None:
        key = await driver.shown_key()
        return key if key and version in (key["version"], key["newest_version"]) else None

    return await until(look, "the app did not look at the new version", seconds=20)


async def test_next_rows_carry_the_new_key_when_it_was_rotated_in_mid_job(
    driver: Driver, account: str
) -> None:
    pid = driver.stack.host_pid
    job_id = driver.new_name("ftjob-rotated")
    job = job_object(job_id, "running")
    await driver.put_job(account, job_id, job=job, events=metric_events(job_id, 5))
    await driver.job_with(job_id, 11)
    assert list(await driver.keys_used()) == [mark(KEY)]

    version = await driver.put_secret(NEXT_KEY)
    shown = await newest_is(driver, version)
    assert (shown["version"], shown["entity"]) == (version, "sandbox-team")
    await driver.control("DELETE", "wandb/requests-by-key")
    # From here on W&B itself would refuse the old key.
    await driver.control("PUT", "wandb/keys", {"key": KEY, "state": "revoked"})

    body = {"events": metric_events(job_id, 12)}
    await driver.put_job(account, job_id, job={**job, "status": "succeeded"}, **body)
    await driver.job_in(job_id, ENDED)
    assert (await driver.compared(job_id, published_by(body))).exact
    assert list(await driver.keys_used()) == [mark(NEXT_KEY)]
    assert driver.stack.host_pid == pid
    assert KEY not in driver.host_log()
    assert NEXT_KEY not in driver.host_log()


async def test_key_in_use_stays_when_the_new_version_is_not_accepted(
    driver: Driver, account: str
) -> None:
    before = await driver.shown_key()
    assert before is not None
    await driver.control("PUT", "wandb/keys", {"key": REVOKED_KEY, "state": "revoked"})
    version = await driver.put_secret(REVOKED_KEY)

    async def look() -> dict[str, str] | None:
        key = await driver.shown_key()
        return key if key and key["newest_version"] == version else None

    shown = await until(look, "the app did not look at the new version", seconds=20)
    assert shown["version"] == before["version"]
    assert shown["newest_cause"]
    await driver.control("DELETE", "wandb/requests-by-key")
    job_id = driver.new_name("ftjob-goes-on")
    body = {"events": metric_events(job_id, 5)}
    await driver.put_job(account, job_id, job=job_object(job_id, "succeeded"), **body)
    await driver.job_in(job_id, ENDED)
    assert (await driver.compared(job_id, published_by(body))).exact
    assert mark(REVOKED_KEY) not in await driver.keys_used()
