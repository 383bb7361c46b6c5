"""Settings that hold the app back: only observing, only those tagged, only the one secret."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import SECRET, Place, causes, steps, vault_id
from tests.e2e.onboarding.scene import Scene
from tests.e2e.onboarding.scenes import MAIN, open_place

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

FULL_PLAN = ["enable_identity", "grant_role", "write_record"]
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with open_place(
        tmp_path_factory.mktemp("run"),
        APPLY_MODE="observe",
        ONBOARDING_SCOPE="tagged",
        VAULT_ROLE_SCOPE="secret",
    ) as opened:
        yield opened


async def test_account_is_left_alone_when_nobody_tagged_it(place: Place) -> None:
    await place.make_account("acc-untagged", tags={"team": "ml"})
    entry = await place.entry_when("acc-untagged", lambda entry: bool(entry["findings"]))
    assert causes(entry, "ok") == ["not_opted_in"]
    assert (entry["in_scope"], entry["plan"]) == (False, [])


async def test_nothing_is_written_when_the_app_only_observes(place: Place) -> None:
    name = "acc-observed"
    await place.make_account(name, tags={"wandb-integration": "on"})
    await place.entry_when(name, lambda entry: entry["in_scope"])
    before = Counter(await place.requests())
    for mode in ("check", "apply"):
        found = await place.resync(name, mode=mode)
        assert [item["kind"] for item in found["plan"]] == FULL_PLAN
        assert steps(found) == dict.fromkeys(FULL_PLAN, "skipped")
    await place.run_function("drift_timer")
    new = Counter(await place.requests()) - before
    services = ("arm", "vault", "openai")
    assert [item for item in new if item[0] in services], "nothing was looked at"
    assert [item for item in new if item[0] in services and item[1] != "GET"] == []
    assert await place.writes(name, MAIN) == []


async def test_role_on_the_vault_is_too_much_when_one_secret_was_asked_for(place: Place) -> None:
    name = "acc-wide"
    await place.make_account(
        name, tags={"wandb-integration": "on"}, identity={"type": "SystemAssigned"}
    )
    await place.entry_when(name, lambda entry: entry["in_scope"])
    found = await place.resync(name)
    grant = next(item for item in found["plan"] if item["kind"] == "grant_role")
    assert grant["target"].lower() == f"{vault_id(MAIN)}/secrets/{SECRET}".lower()
    role = "6f1de5b4-0000-4000-8000-000000000001"
    await place.arm(
        "PUT",
        f"{vault_id(MAIN)}/providers/Microsoft.Authorization/roleAssignments/{role}",
        {
            "properties": {
                "roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{OFFICER}",
                "principalId": await Scene(place, name, MAIN).principal(),
            }
        },
    )
    found = await place.resync(name)
    assert "access_wider_than_asked" in causes(found, "warning")
    assert "access_missing" not in causes(found, "blocked")
