"""An account appears, is checked and mended; what is healthy is never written to again."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.driver import SUBSCRIPTION, Driver

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
"""Key Vault Secrets Officer."""
USER_IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-e2e"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-team"
)


async def assignments(driver: Driver, principal: str) -> list[dict[str, Any]]:
    """Return the role assignments of a principal on the vault."""
    path = f"{driver.vault_id()}/providers/Microsoft.Authorization/roleAssignments"
    found = (await driver.arm("GET", path, "2022-04-01"))["value"]
    return [item["properties"] for item in found if item["properties"]["principalId"] == principal]


async def test_account_is_wired_when_it_appears(driver: Driver) -> None:
    name = await driver.onboard()
    account = await driver.read_account(name)
    assert account["identity"]["type"] == "SystemAssigned"
    roles = await assignments(driver, account["identity"]["principalId"])
    assert [role["roleDefinitionId"].rsplit("/", 1)[1] for role in roles] == [OFFICER]
    assert account["tags"]["wandb-key-vault-url"].startswith("https://kv-sandbox.vault.azure.net")
    assert account["tags"]["wandb-secret-name"] == "wandb-api-key"
    entry = await driver.healthy(name)
    assert entry["entity"] == "sandbox-team"
    assert {step["state"] for step in entry["steps"]} <= {"done"}
    key = await driver.shown_key()
    assert key is not None
    assert (key["entity"], bool(key["version"])) == ("sandbox-team", True)


async def test_tags_and_identities_are_kept_when_the_account_has_its_own(driver: Driver) -> None:
    name = await driver.onboard(
        tags={"cost-centre": "42"},
        identity={"type": "UserAssigned", "userAssignedIdentities": {USER_IDENTITY: {}}},
    )
    account = await driver.read_account(name)
    assert account["tags"]["cost-centre"] == "42"
    assert account["identity"]["type"].replace(" ", "") == "SystemAssigned,UserAssigned"
    assert [key.lower() for key in account["identity"]["userAssignedIdentities"]] == [
        USER_IDENTITY.lower()
    ]


def event_grid(driver: Driver, account: str) -> dict[str, Any]:
    return driver.account_written(account)


def cloud_event(driver: Driver, account: str) -> dict[str, Any]:
    event = driver.account_written(account)
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": event["topic"],
        "subject": event["subject"],
        "type": event["eventType"],
        "time": event["eventTime"],
        "data": event["data"],
    }


def other_case(driver: Driver, account: str) -> dict[str, Any]:
    return driver.account_written(account.replace("resourceGroups", "resourcegroups").upper())


@pytest.mark.parametrize("schema", [event_grid, cloud_event, other_case])
async def test_nothing_is_written_when_an_event_comes_again(
    driver: Driver, schema: Callable[[Driver, str], dict[str, Any]]
) -> None:
    name = await driver.onboard()
    await driver.delivered()
    before = await driver.healthy(name)
    await driver.forget_requests()
    event = schema(driver, driver.account_id(name))
    statuses = await driver.deliver("account_event", event, event)
    assert all(200 <= status <= 204 for status in statuses), statuses
    after = await driver.checked_again(name, before)
    assert await driver.writes() == []
    assert (after["healthy"], after["plan"], after["steps"]) == (True, [], [])
    assert await driver.requests("arm"), "the account was not read at all"


async def test_account_is_left_alone_when_its_tag_says_off(driver: Driver) -> None:
    name = driver.new_name("aoai")
    await driver.delivered()
    await driver.put_account(name, tags={"wandb-integration": "off"})
    await driver.onboard()  # a later one is through, so the earlier one was looked at
    account = await driver.read_account(name)
    assert account["tags"] == {"wandb-integration": "off"}
    assert (account.get("identity") or {}).get("principalId") is None
