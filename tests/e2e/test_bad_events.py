"""Events that cannot be used are acknowledged, reported once, and change nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.driver import SUBSCRIPTION, Driver, until

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

FOREIGN = "11111111-1111-4111-8111-111111111111"
Case = Callable[[Driver], dict[str, Any]]


def mine(driver: Driver) -> str:
    return driver.account_id("aoai-bad")


def theirs(driver: Driver) -> str:
    return mine(driver).replace(SUBSCRIPTION, FOREIGN)


def secret_event(vault: str, secret: str) -> dict[str, Any]:
    return {
        "id": "1",
        "topic": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/"
        f"Microsoft.KeyVault/vaults/{vault}",
        "subject": secret,
        "eventType": "Microsoft.KeyVault.SecretNewVersionCreated",
        "eventTime": "2026-11-24T00:00:00Z",
        "data": {
            "Id": f"https://{vault}.vault.azure.net/secrets/{secret}/v1",
            "VaultName": vault,
            "ObjectName": secret,
        },
        "dataVersion": "1",
        "metadataVersion": "1",
    }


ACCOUNT_EVENTS: dict[str, Case] = {
    "data that is text": lambda d: {**d.account_written(mine(d)), "data": "no object"},
    "data that is a list": lambda d: {**d.account_written(mine(d)), "data": [1]},
    "data that is null": lambda d: {**d.account_written(mine(d)), "data": None},
    "an unknown type": lambda d: d.account_written(mine(d), eventType="Contoso.Things.Happened"),
    "a foreign topic": lambda d: d.account_written(mine(d), topic=f"/subscriptions/{FOREIGN}"),
    "a resource elsewhere": lambda d: d.account_written(theirs(d)),
    "an id that is none": lambda d: d.account_written("/not/an/id"),
    "another resource": lambda d: d.account_written(d.vault_id()),
    "another operation": lambda d: d.account_written(
        mine(d), data={"operationName": "Microsoft.Compute/virtualMachines/write"}
    ),
}
VAULT_EVENTS: dict[str, Case] = {
    "an unknown type": lambda d: {
        **secret_event("kv-sandbox", "wandb-api-key"),
        "eventType": "Microsoft.KeyVault.KeyExpired",
    },
    "a foreign vault": lambda d: secret_event("kv-evil", "wandb-api-key"),
    "a foreign host": lambda d: {
        **secret_event("kv-sandbox", "wandb-api-key"),
        "data": {"Id": "https://kv-sandbox.evil.example/secrets/wandb-api-key/v1"},
    },
    "another secret": lambda d: secret_event("kv-sandbox", "database-password"),
}
CASES = [("account_event", name, case) for name, case in ACCOUNT_EVENTS.items()]
CASES += [("vault_event", name, case) for name, case in VAULT_EVENTS.items()]


async def problems(driver: Driver) -> dict[tuple[str, str, str], int]:
    return {
        (item["source"], item["subject"], item["cause"]): item["count"]
        for item in (await driver.status())["problems"]
    }


@pytest.mark.parametrize(
    ("function", "case"),
    [pytest.param(function, case, id=f"{function}: {name}") for function, name, case in CASES],
)
async def test_event_is_acknowledged_and_reported_once_when_it_cannot_be_used(
    driver: Driver, function: str, case: Case
) -> None:
    before = await problems(driver)
    await driver.forget_requests()
    event = case(driver)
    first, second = await driver.deliver(function, event, event)
    assert (200 <= first <= 204, 200 <= second <= 204) == (True, True), (first, second)

    async def counted() -> list[tuple[str, int]] | None:
        now = await problems(driver)
        changed = [
            (key[0], count - before.get(key, 0))
            for key, count in now.items()
            if count != before.get(key, 0)
        ]
        return changed if sum(count for _, count in changed) >= 2 else None

    # Both deliveries are in one entry.
    assert await until(counted, "the problem is not in the status") == [(function, 2)]
    assert await driver.requests("arm") == []
    assert await driver.requests("vault") == []
    assert await driver.shown_account("aoai-bad") is None


async def test_event_is_refused_for_good_when_it_is_no_object(driver: Driver) -> None:
    # The host answers 500, so Event Grid tries again; nothing of it reaches the app.
    assert await driver.deliver("account_event", "text", 7) == [500, 500]
