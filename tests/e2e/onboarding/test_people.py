"""People act at the very moment of each of the app's requests, by a seed; what they did stays.

The sandbox holds the request, someone else acts, and the request goes on. `PEOPLE_SEED` plays a
failed run again.
"""

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import Json, Place, vault_id
from tests.e2e.onboarding.scene import Scene
from tests.e2e.onboarding.scenes import MAIN, TENANT, open_place

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

SEED = int(os.environ.get("PEOPLE_SEED") or random.randrange(10**6))
USER_IDENTITY = (
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-e2e"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)
READER = "21090545-7ca7-4776-b22c-e363652d74d2"
STRANGER = "77777777-0000-4000-8000-000000000001"
MOMENTS = (*(("arm", number) for number in range(5)), ("vault", 0))
"""Every read and write of one onboarding: five to Resource Manager, one to the vault."""
PATCH = ("arm", 3)
"""Azure has no condition for this write, so that what is set between the read made for it and the
write itself (milliseconds) is lost: docs/fidelity.md."""
EACH = 2
"""Acts at each moment."""

Look = Callable[[], Awaitable[None]]
Act = Callable[[Scene], Awaitable[Look]]
"""Acts as a person does; returns what looks later whether it still stands."""


async def sets_a_tag(scene: Scene) -> Look:
    await scene.tag(cost_center="4711")

    async def stands() -> None:
        assert (await scene.place.account(scene.name))["tags"]["cost-center"] == "4711"

    return stands


async def adds_an_identity(scene: Scene) -> Look:
    now: Json = (await scene.place.account(scene.name)).get("identity") or {"type": "None"}
    system = "SystemAssigned" in now["type"]
    await scene.patch(
        identity={
            "type": "SystemAssigned, UserAssigned" if system else "UserAssigned",
            "userAssignedIdentities": {USER_IDENTITY: {}},
        }
    )

    async def stands() -> None:
        identity = (await scene.place.account(scene.name))["identity"]
        assert list(identity["userAssignedIdentities"]) == [USER_IDENTITY]

    return stands


async def gives_somebody_a_role(scene: Scene) -> Look:
    role = f"{vault_id(scene.vault)}/providers/Microsoft.Authorization/roleAssignments/{uuid4()}"
    definition = f"/providers/Microsoft.Authorization/roleDefinitions/{READER}"
    await scene.place.arm(
        "PUT", role, {"properties": {"roleDefinitionId": definition, "principalId": STRANGER}}
    )

    async def stands() -> None:
        assert (await scene.place.arm("GET", role))["properties"]["principalId"] == STRANGER

    return stands


async def stores_a_key(scene: Scene) -> Look:
    version = await scene.place.put_secret(scene.vault, value=await scene.own_key("newer"))

    async def stands() -> None:
        async def in_use() -> list[str]:
            keys = (await scene.place.status())["keys"]
            return [key["version"] for key in keys if key["vault"].startswith(f"{scene.vault}.")]

        await scene.place.until(in_use, lambda found: found == [version], 60)

    return stands


ON_ACCOUNT: tuple[Act, ...] = (sets_a_tag, adds_an_identity)
ELSEWHERE: tuple[Act, ...] = (gives_somebody_a_role, stores_a_key)


def act_of(row: int, number: int) -> Act:
    """Return who acts in a play; the two plays of one moment have different acts."""
    acts = ELSEWHERE if MOMENTS[row] == PATCH else ON_ACCOUNT + ELSEWHERE
    return random.Random(f"{SEED} {row}").sample(acts, EACH)[number]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    count = EACH * len(MOMENTS)
    vaults = ",".join((MAIN, *(f"kv-people-{number:03d}" for number in range(count))))
    async with open_place(tmp_path_factory.mktemp("run"), ALLOWED_VAULTS=vaults) as opened:
        yield opened


@pytest.mark.parametrize("play", range(EACH * len(MOMENTS)))
async def test_what_a_person_does_meanwhile_stays(place: Place, play: int) -> None:
    row, number = divmod(play, EACH)
    act, (service, moment) = act_of(row, number), MOMENTS[row]
    print(f"PEOPLE_SEED={SEED}: {service} {moment}, {act.__name__}")  # shown when the test fails
    scene = Scene(place, f"acc-people-{play:03d}", f"kv-people-{play:03d}")
    await place.make_vault(scene.vault, tenantId=TENANT)
    await scene.secret()
    await place.control(
        "POST",
        "faults",
        {"service": service, **_where(service, moment, play)}
        | {
            "times": 1,
            "name": scene.name,
            "action": {"hold": True},
        },
    )
    await place.make_account(
        scene.name, tags={"wandb-key-vault-url": f"https://{scene.vault}.vault.azure.net"}
    )
    await scene.until_hit()
    stands = await act(scene)
    assert await scene.end_faults() == 1
    await place.entry_when(scene.name, lambda entry: bool(entry["healthy"]))
    await stands()
    looked = await place.resync(scene.name, mode="check")
    assert (looked["plan"], looked["healthy"]) == ([], True), looked
    account = await place.account(scene.name)
    assert account["tags"]["wandb-secret-name"] == "wandb-api-key"
    assert "SystemAssigned" in account["identity"]["type"]


def _where(service: str, moment: int, play: int) -> dict[str, Any]:
    if service == "vault":
        return {"host_contains": f"people-{play:03d}.", "skip": moment}
    # The first is the test's own, which makes the account.
    return {"path_contains": f"people-{play:03d}", "skip": moment + 1}
