"""Eight keys in eight vaults, a hundred jobs each, all at once in one process: every request
carries the key of its own account, also while all eight keys are being replaced."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, running, until
from tests.e2e.fleet import Fleet, all_relayed
from tests.e2e.rotating import Key, forget_keys, new_key

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

KEYS = 8
JOBS = 100


@dataclass
class Tenant:
    """One team with a vault, a key and an account of its own."""

    number: int
    key: Key
    fleet: Fleet

    @property
    def team(self) -> str:
        return f"team-{self.number}"

    @property
    def vault(self) -> str:
        return f"kv-team-{self.number}"


async def key_of(driver: Driver, number: int) -> Key:
    """Return a key that may write to its own team's projects alone."""
    team = f"team-{number}"
    return await new_key(driver, entity=team, teams=[team], write=[team], username=f"user-{number}")


async def store(driver: Driver, number: int, key: Key) -> str:
    expires = (datetime.now(UTC) + timedelta(days=180)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = f"vaults/kv-team-{number}/secrets/wandb-api-key"
    answer = await driver.control("PUT", path, {"value": key.value, "expires": expires})
    return str(answer["version"])


async def tenant(driver: Driver, number: int) -> Tenant:
    key, vault, account = await key_of(driver, number), f"kv-team-{number}", f"aoai-team-{number}"
    await driver.put_vault(vault)
    await store(driver, number, key)
    tags = {"wandb-key-vault-url": f"https://{vault}.vault.azure.net"}
    await driver.put_account(account, tags=tags)
    await driver.healthy(account, seconds=60)
    return Tenant(number, key, Fleet(driver, account, JOBS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    vaults = ",".join(["kv-sandbox", *(f"kv-team-{number}" for number in range(1, KEYS + 1))])
    env = {"ALLOWED_VAULTS": vaults, "RELAY_SCHEDULE": "*/2 * * * * *"}
    async with running(tmp_path_factory.mktemp("run"), host_env=env) as started:
        yield started


async def carried(driver: Driver) -> dict[str, set[str]]:
    """Return the teams that requests about runs were for, by the key that they carried."""
    found: dict[str, set[str]] = {}
    for item in await driver.control("GET", "wandb/requests-by-key"):
        if item["run"]:
            found.setdefault(item["key_sha256"], set()).add(item["run"].partition("/")[0])
    return found


async def relayed(tenants: list[Tenant]) -> None:
    await all_relayed([one.fleet for one in tenants], seconds=120, every=1.0)


async def test_each_request_carries_the_key_of_its_own_account(driver: Driver) -> None:
    tenants = await asyncio.gather(*(tenant(driver, number) for number in range(1, KEYS + 1)))
    await asyncio.gather(*(one.fleet.advance(2) for one in tenants))
    await relayed(tenants)
    assert await carried(driver) == {one.key.mark: {one.team} for one in tenants}

    # All of them again, while every key is replaced by another one of its team.
    fresh = {one.number: await key_of(driver, one.number) for one in tenants}
    versions = await asyncio.gather(
        *(one.fleet.advance(2) for one in tenants),
        *(store(driver, one.number, fresh[one.number]) for one in tenants),
    )
    wanted = set(versions[KEYS:])

    async def switched() -> bool | None:
        keys = (await driver.status())["keys"]
        return True if wanted <= {item["version"] for item in keys} else None

    await until(switched, "not every key was replaced", seconds=60)
    await relayed(tenants)
    used = await carried(driver)
    for one in tenants:
        assert used[one.key.mark] == {one.team}
        assert used.get(fresh[one.number].mark, {one.team}) == {one.team}

    await forget_keys(driver)
    await asyncio.gather(*(one.fleet.advance(2) for one in tenants))
    await relayed(tenants)
    assert await carried(driver) == {fresh[one.number].mark: {one.team} for one in tenants}
    for one in tenants:
        await one.fleet.check(entity=one.team)
