"""The key changes while fifty jobs train: no restart, no gap, never a key that was not proved.

One story in the order of the file: each test leaves a good key in use and all runs complete so
far; the last one ends the jobs.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.e2e.driver import KEY, Driver, running, until
from tests.e2e.fleet import Fleet
from tests.e2e.rotating import (
    Key,
    asked_by,
    forget_keys,
    in_use,
    looked_at,
    new_key,
    pause,
    revoke,
)

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

JOBS = 50
TICK_S = 1.0
WANDB_DOWN = {"service": "wandb", "action": {"drop": "before"}}


@dataclass
class Story:
    """The fleet, and the key that is in use at this point."""

    driver: Driver
    fleet: Fleet
    account: str
    key: Key
    version: str
    pid: int

    async def rotated(self, key: Key, version: str) -> None:
        """Check a switch that was seen: from here on nothing carries the old key."""
        old, self.key, self.version = self.key, key, version
        await forget_keys(self.driver)
        await self.fleet.advance()
        await self.fleet.all_relayed()
        await self.fleet.check()
        assert await asked_by(self.driver, old) == set()
        assert "rows" in await asked_by(self.driver, key)

    async def unmoved(self, bad: Key) -> None:
        """Check that the key in use stayed, and that no row was sent with the bad one."""
        shown = await self.driver.shown_key()
        assert shown is not None
        assert shown["version"] == self.version
        await self.fleet.advance()
        await self.fleet.all_relayed()
        await self.fleet.check()
        assert await asked_by(self.driver, bad) <= {"viewer", "project", "models", "None"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    async with running(tmp_path_factory.mktemp("run")) as driver:
        account = await driver.onboard()
        shown = await driver.shown_key()
        assert shown is not None
        fleet = Fleet(driver, account, JOBS)
        await fleet.advance()
        await fleet.all_relayed()
        yield Story(driver, fleet, account, Key(KEY), shown["version"], driver.stack.host_pid)


async def findings(story: Story) -> dict[str, str]:
    entry = await story.driver.shown_account(story.account)
    assert entry is not None
    return {item["cause"]: item["severity"] for item in entry["findings"]}


async def found(story: Story, cause: str) -> str:
    """Wait until the account has a finding; return its severity."""

    async def look() -> str | None:
        return (await findings(story)).get(cause)

    return await until(look, f"nobody said {cause}", seconds=60)


async def test_next_requests_carry_the_new_key_when_it_is_good(story: Story) -> None:
    key = await new_key(story.driver)
    await story.fleet.advance()
    version = await story.driver.put_secret(key.value)
    shown = await in_use(story.driver, version)
    assert (shown["entity"], shown["refused_at"]) == ("sandbox-team", None)
    newest = shown["changes"][0]
    assert (newest["version"], newest["accepted"]) == (version, True)
    # W&B itself would refuse the old key from here on.
    await revoke(story.driver, story.key)
    await story.rotated(key, version)
    assert story.driver.stack.host_pid == story.pid


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("revoked", "key_rejected"),
        ("of another entity", "key_wrong_entity"),
        ("that may only read", "key_read_only"),
        ("malformed", "key_malformed"),
        ("disabled", "secret_disabled"),
    ],
)
async def test_key_in_use_stays_when_the_new_one_is(story: Story, case: str, cause: str) -> None:
    driver = story.driver
    more = {
        "revoked": {"state": "revoked"},
        "of another entity": {"entity": "elsewhere"},
        "that may only read": {"write": ["sandbox-team/another-project"]},
    }.get(case, {})
    key = await new_key(driver, **more)
    if case == "malformed":
        key = Key(f"not a key, {driver.new_name('but')} a text that a person pasted by mistake")
        driver.witness.values.add(key.value)
    await driver.control("DELETE", "wandb/requests-by-key")
    await story.fleet.advance()
    version = await driver.put_secret(key.value, enabled=case != "disabled")

    async def look() -> bool | None:
        shown = await driver.shown_key()
        return True if shown and shown["newest_cause"] == cause else None

    await until(look, f"nobody said {cause}", seconds=60)
    assert await found(story, cause) == "warning"
    entry = await driver.shown_account(story.account)
    assert entry is not None
    assert entry["healthy"]
    if case != "disabled":
        await looked_at(driver, version)
    await story.unmoved(key)
    if case in ("malformed", "disabled"):
        assert await asked_by(driver, key) == set()


async def test_good_key_is_taken_after_bad_ones(story: Story) -> None:
    key = await new_key(story.driver)
    version = await story.driver.put_secret(key.value)
    await in_use(story.driver, version)
    await story.rotated(key, version)


async def test_same_version_stays_in_use_when_w_and_b_is_down_and_the_new_one_follows(
    story: Story,
) -> None:
    key = await new_key(story.driver)
    await story.driver.control("POST", "faults", WANDB_DOWN)
    await story.fleet.advance()
    version = await story.driver.put_secret(key.value)
    assert await found(story, "key_unknown") == "warning"
    shown = await story.driver.shown_key()
    assert shown is not None
    assert shown["version"] == story.version
    await story.driver.control("DELETE", "faults")
    await in_use(story.driver, version)
    await story.rotated(key, version)


async def test_newest_version_ends_up_in_use_when_events_are_doubled_and_reversed(
    story: Story,
) -> None:
    driver = story.driver
    first, second = await new_key(driver), await new_key(driver)
    await driver.control("PUT", "settings", {"event_copies": 3})
    await story.fleet.advance()
    versions = [await driver.put_secret(key.value) for key in (first, second)]
    await driver.control("PUT", "settings", {"event_copies": 1})
    await in_use(driver, versions[1])
    await driver.delivered()
    events = [secret_event(version, kind) for kind in KINDS for version in reversed(versions)]
    assert set(await driver.deliver("vault_event", *events, *events)) <= {200, 202, 204}
    await driver.delivered()
    await pause(TICK_S)
    shown = await in_use(driver, versions[1])
    # Events about a version that is not current change nothing.
    lines = [item["version"] for item in shown["changes"] if item["version"] in versions]
    assert lines.count(versions[1]) == 1
    await story.rotated(second, versions[1])
    assert "rows" not in await asked_by(driver, first)


KINDS = ("SecretNewVersionCreated", "SecretNearExpiry", "SecretExpired")


def secret_event(version: str, kind: str) -> dict[str, object]:
    identifier = f"https://kv-sandbox.vault.azure.net/secrets/wandb-api-key/{version}"
    return {
        "id": f"{kind}-{version}",
        "topic": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-e2e"
        "/providers/Microsoft.KeyVault/vaults/kv-sandbox",
        "subject": "wandb-api-key",
        "eventType": f"Microsoft.KeyVault.{kind}",
        "eventTime": "2026-11-24T00:00:00Z",
        "data": {
            "Id": identifier,
            "VaultName": "kv-sandbox",
            "ObjectType": "Secret",
            "ObjectName": "wandb-api-key",
            "Version": version,
            "EXP": "1800000000",
        },
        "dataVersion": "1",
        "metadataVersion": "1",
    }


async def test_switch_is_made_once_when_the_host_dies_between_proving_and_switching(
    story: Story,
) -> None:
    driver = story.driver
    key = await new_key(driver)
    await driver.control("DELETE", "wandb/requests-by-key")
    await story.fleet.advance()
    await story.fleet.all_relayed()
    # Known runs are not upserted again: of /graphql, only the two questions of a proof are left.
    slow = {"service": "wandb", "path_contains": "/graphql", "action": {"delay_s": 2}}
    await driver.control("POST", "faults", slow)
    version = await driver.put_secret(key.value)

    async def proved() -> bool | None:
        return True if "viewer" in await asked_by(driver, key) else None

    await until(proved, "W&B was not asked about the new key", every=0.05)
    driver.stack.kill_host()
    shown = await driver.shown_key()
    assert shown is not None
    assert shown["version"] == story.version
    await driver.control("DELETE", "faults")
    await driver.stack.wait_host()
    story.pid = driver.stack.host_pid
    shown = await in_use(driver, version)
    assert [item["version"] for item in shown["changes"]].count(version) == 1
    await story.rotated(key, version)


async def test_everything_resumes_by_itself_when_the_key_in_use_was_revoked(
    story: Story,
) -> None:
    driver = story.driver
    bad, good = await new_key(driver, state="revoked"), await new_key(driver)
    await revoke(driver, story.key)
    await story.fleet.advance()
    await story.fleet.all_parked()

    async def refused() -> bool | None:
        shown = await driver.shown_key()
        return True if shown and shown["refused_at"] else None

    await until(refused, "the key in use does not count as refused", seconds=60)
    assert await found(story, "key_rejected") == "blocked"
    # A newer version that is bad too changes nothing about it.
    await looked_at(driver, await driver.put_secret(bad.value))
    await story.fleet.advance()
    await forget_keys(driver)
    await pause(2 * TICK_S)
    # Jobs wait without asking W&B for rows with a key that it refuses.
    assert await asked_by(driver, story.key) <= {"None", "viewer"}
    assert await asked_by(driver, bad) <= {"None", "viewer"}
    version = await driver.put_secret(good.value)
    await in_use(driver, version)
    started = time.monotonic()
    await story.fleet.all_relayed(seconds=60)
    assert time.monotonic() - started < TICK_S + 9, "one tick, and what a busy machine takes"
    assert driver.stack.host_pid == story.pid
    await story.rotated(good, version)


async def test_everything_resumes_without_an_event_when_w_and_b_takes_the_key_back(
    story: Story,
) -> None:
    driver = story.driver
    await revoke(driver, story.key)
    await story.fleet.advance()
    await story.fleet.all_parked()
    body = {"key": story.key.value, "entity": "sandbox-team", "state": "active"}
    await driver.control("PUT", "wandb/keys", body)
    await story.fleet.all_relayed(seconds=60)
    await story.fleet.check()


async def test_every_value_is_in_its_run_once_when_all_jobs_have_ended(story: Story) -> None:
    await story.fleet.advance(status="succeeded")
    await story.fleet.all_relayed()
    await story.fleet.check()
    shown = await story.fleet.shown()
    assert {job["state"] for job in shown.values()} <= {"ending", "complete"}
