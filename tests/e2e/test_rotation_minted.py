"""The app makes the new key itself: both keys work until the old one is deleted in W&B."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, running, until
from tests.e2e.fleet import Fleet
from tests.e2e.rotating import asked_by, forget_keys, in_use, new_key

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

JOBS = 10
GRACE_S = 4.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    env = {"ROTATION": "mint", "ROTATION_GRACE_HOURS": f"{GRACE_S / 3600:.6f}"}
    async with running(tmp_path_factory.mktemp("run"), host_env=env) as started:
        yield started


async def keys_of(driver: Driver, owner: str) -> dict[str, str]:
    """Return the state of each key of a W&B user, by how the sandbox names keys."""
    listed = await driver.control("GET", "wandb/keys")
    return {item["key_sha256"]: item["state"] for item in listed if item["username"] == owner}


async def rotation(driver: Driver, state: str, seconds: float = 30) -> dict[str, Any]:
    """Wait until a rotation is in a state; return the key as shown."""
    last: Any = None

    async def look() -> dict[str, Any] | None:
        nonlocal last
        last = await driver.shown_key()
        found = last and last["rotation"]
        return last if found and found["state"] == state else None

    return await until(look, lambda: f"no rotation is {state}: {last}", seconds=seconds)


async def drift(driver: Driver) -> None:
    """Have the drift timer run now."""
    status, _ = await driver.app("POST", "/admin/functions/drift_timer", {})
    assert status in (200, 202)


async def test_key_is_replaced_and_a_persons_old_one_left_while_jobs_train(driver: Driver) -> None:
    account = await driver.onboard()
    fleet = Fleet(driver, account, JOBS)
    await fleet.advance()
    await fleet.all_relayed()
    # The app's own first key is of another user than the one that is about to end.
    first = await new_key(driver, username="robot", entity="sandbox-team", teams=["sandbox-team"])
    version = await driver.put_secret(first.value, days=5)

    shown = await rotation(driver, "switched")
    minted = shown["version"]
    assert minted != version
    newest = shown["changes"][0]
    assert (newest["version"], newest["accepted"]) == (minted, True)
    # The vault's own event about the new version may be quicker than the rotation itself.
    assert newest["trigger"] in ("minted", "Microsoft.KeyVault.SecretNewVersionCreated")
    assert shown["rotation"]["old_version"] == version
    states = await keys_of(driver, "robot")
    assert len(states) == 2
    assert set(states.values()) == {"active"}, "both keys work meanwhile"

    await forget_keys(driver)
    await fleet.advance()
    await fleet.all_relayed()
    assert await asked_by(driver, first) == set()
    await fleet.check()

    async def ended() -> bool | None:
        await drift(driver)
        return True if (await driver.shown_key())["rotation"]["state"] == "idle" else None

    await until(ended, "the rotation did not end", seconds=30, every=1.0)
    shown = await rotation(driver, "idle")
    assert [item["cause"] for item in shown["rotation"]["findings"]] == ["old_key_left"]
    assert (await keys_of(driver, "robot"))[first.mark] == "active", "a person created it"
    await in_use(driver, minted)
    await fleet.advance(status="succeeded")
    await fleet.all_relayed()
    await fleet.check()


async def test_old_key_stays_and_the_reason_is_told_when_the_app_may_not_store_secrets(
    driver: Driver,
) -> None:
    owner = await new_key(driver, username="other-robot", teams=["sandbox-team"])
    fault = {
        "service": "vault",
        "method": "PUT",
        "action": {
            "status": 403,
            "body": {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByRbac"}}},
        },
    }
    await driver.control("POST", "faults", fault)
    version = await driver.put_secret(owner.value, days=5)

    async def told() -> Any:
        await drift(driver)
        shown = await driver.shown_key()
        found = shown and shown["rotation"] and shown["rotation"]["findings"]
        return found if found and found[0]["cause"] == "mint_store_denied" else None

    found = await until(told, "nobody said that the key could not be stored", seconds=30, every=1.0)
    assert "Key Vault Secrets Officer" in found[0]["remedy"]
    await in_use(driver, version)
    states = await keys_of(driver, "other-robot")
    assert states[owner.mark] == "active"
    assert sorted(states.values()) == ["active", "revoked"], "the one that was made is deleted"
    await driver.control("DELETE", "faults")
