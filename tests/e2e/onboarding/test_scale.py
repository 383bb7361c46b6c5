"""What taking in many accounts costs: calls per account, and pages of several subscriptions."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import SUBSCRIPTION, Place, account_id
from tests.e2e.onboarding.scenes import MAIN, open_place

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

OTHER = "00000000-0000-0000-0000-000000000002"
MANY = 200
MOST_CALLS = 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with open_place(
        tmp_path_factory.mktemp("run"), AZURE_SUBSCRIPTION_IDS=f"{SUBSCRIPTION},{OTHER}"
    ) as opened:
        yield opened


async def calls(place: Place) -> Counter[tuple[str, str]]:
    """Return how often the app called each service by each method."""
    return Counter(
        (service, method)
        for service, method, path, _ in await place.requests()
        # Only the test itself PUTs accounts.
        if service in ("arm", "vault", "wandb") and not (method == "PUT" and "/accounts/" in path)
    )


async def healthy(place: Place) -> int:
    return sum(entry["healthy"] for entry in place.entries.values())


async def test_account_costs_at_most_eight_calls_when_many_share_a_vault(
    place: Place, record_property: Callable[[str, object], None]
) -> None:
    before = await calls(place)
    began = time.monotonic()
    names = [f"acc-many-{number:03d}" for number in range(MANY)]
    limit = asyncio.Semaphore(16)

    async def make(name: str) -> None:
        async with limit:
            await place.make_account(name, tags={})

    await asyncio.gather(*(make(name) for name in names))
    await place.until(lambda: healthy(place), lambda count: count == MANY, 150)
    seconds = time.monotonic() - began
    used = await calls(place) - before
    per_account = used.total() / MANY
    record_property("onboarding_calls_per_account", per_account)
    record_property("onboarding_seconds", seconds)
    print(f"{MANY} accounts: {per_account:.2f} calls each, {seconds:.1f} s, {dict(used)}")
    assert per_account <= MOST_CALLS
    writes = Counter(await place.writes("acc-many-", MAIN))
    assert writes == {"PATCH account 200": MANY, "PUT role 201": MANY}


async def test_drift_pages_through_all_subscriptions_and_writes_nothing(place: Place) -> None:
    await place.control("PUT", "settings", {"page_size": 30})
    far = account_id("acc-far", OTHER)
    # An account whose event is lost.
    await place.control("PUT", "settings", {"event_copies": 0})
    await place.arm(
        "PUT",
        far,
        {
            "kind": "OpenAI",
            "location": "swedencentral",
            "sku": {"name": "S0"},
            "properties": {"customSubDomainName": "acc-far"},
            "tags": {"wandb-integration": "observe"},
        },
    )
    await place.control("PUT", "settings", {"event_copies": 1})
    stamps = {name: entry["checked_at"] for name, entry in place.entries.items()}
    before, made = await calls(place), await place.writes("acc-")
    await place.run_function("drift_timer")

    async def looked_at() -> int:
        return sum(entry["checked_at"] != stamps.get(name) for name, entry in place.entries.items())

    await place.until(looked_at, lambda count: count == MANY + 1, 120)
    used = await calls(place) - before
    assert place.entries["acc-far"]["mode"] == "observe"
    assert await place.writes("acc-") == made
    listings = [
        item
        for item in await place.requests()
        if item[2].lower().endswith("/microsoft.cognitiveservices/accounts")
    ]
    assert {item[2].split("/")[2] for item in listings} == {SUBSCRIPTION, OTHER}
    assert len(listings) >= MANY // 30 + 2
    print(f"drift over {MANY + 1} accounts: {used.total()} calls, {dict(used)}")
    # One read for each account, and what they share.
    assert used.total() <= 1.5 * MANY
