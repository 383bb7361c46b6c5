"""Plays one situation from beginning to end: what is found, what is done, and after the repair.

Every situation has an account and a vault of its own, so that all of a table can be played in
one stack at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dev.tools.local_stack import Stack
from tests.e2e.onboarding.place import Json, Place, causes, steps
from tests.e2e.onboarding.scene import Scene

MAIN = "kv-sandbox"
TENANT = "20000000-0000-4000-8000-00000000000a"
OTHER_TENANT = "20000000-0000-4000-8000-00000000000b"
_AT_ONCE = 24


Move = Callable[[Scene], Awaitable[Any]]


async def nothing(_: Scene) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True)
class Situation:
    """A row of a table. Expected lists are sorted; `ok` and `manual` findings are not listed."""

    name: str
    before: Move = nothing
    """What is so before the account is made; a good secret is in the vault unless `bare`."""
    bare: bool = False
    vault: Mapping[str, Json] | None = field(default_factory=dict)
    """Properties of the vault; None: there is none."""
    account: Mapping[str, Json] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    meanwhile: Move = nothing
    """What happens once the account is made, while its first pass may be under way."""
    then: Move | None = None
    """Given: the account becomes healthy first, then this happens."""
    blocked: Sequence[str] = ()
    warnings: Sequence[str] = ()
    plan: Sequence[str] | None = None
    """Kinds of steps; None: not looked at."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """Ends of the steps that are looked at."""
    writes: Sequence[str] | None = None
    repair: Move = nothing
    looks: bool = True
    """Whether somebody's event follows the repair; False: it must come by itself."""
    repaired: Sequence[str] | None = None
    """The app's writes after the repair; None: not looked at."""
    ends: str = "healthy"
    """`healthy`; `alone`: the account is none of the app's business; `closed`: it is gone."""
    remains: Sequence[str] = ()
    """Warnings that the repair leaves."""


async def play(case: Situation, scene: Scene) -> None:
    """Play a situation and hold it to what its row says."""
    place, name, vault = scene.place, scene.name, scene.vault
    if case.vault is not None:
        await place.make_vault(vault, **({"tenantId": TENANT} | dict(case.vault)))
        if not case.bare:
            await scene.secret()
    if case.then is None:
        await case.before(scene)
    tags = {"wandb-key-vault-url": f"https://{vault}.vault.azure.net"} | dict(case.tags)
    await place.make_account(name, tags=tags, **dict(case.account))
    await case.meanwhile(scene)
    start: list[str] = []
    looked_at = ""
    if case.then is not None:
        entry = await place.entry_when(name, lambda entry: bool(entry["healthy"]))
        looked_at, start = entry["checked_at"], await place.writes(name, vault)
        await case.then(scene)
    if case.ends == "closed":
        await _gone(scene)
        return

    def as_expected(entry: Json) -> bool:
        return (
            entry["checked_at"] != looked_at
            and causes(entry, "blocked") == sorted(case.blocked)
            and causes(entry, "warning") == sorted(case.warnings)
        )

    entry = await place.entry_when(name, as_expected)
    for item in entry["findings"]:
        assert item["severity"] == "ok" or item["remedy"], item
    made = _since(start, await place.writes(name, vault))
    if case.plan is not None:
        assert [item["kind"] for item in entry["plan"]] == list(case.plan)
    assert {kind: steps(entry).get(kind) for kind in case.steps} == dict(case.steps)
    if case.writes is not None:
        assert made == sorted(case.writes)
    await _repair(case, scene, entry["checked_at"])


async def _repair(case: Situation, scene: Scene, looked_at: str) -> None:
    place, name, vault = scene.place, scene.name, scene.vault
    await scene.end_faults()
    broken = await place.writes(name, vault)
    await case.repair(scene)
    if case.looks:
        await scene.look()
    in_scope = case.ends == "healthy"
    await place.entry_when(
        name,
        lambda found: (
            found["checked_at"] != looked_at
            and bool(found["healthy"])
            and found["in_scope"] is in_scope
            and causes(found, "warning") == sorted(case.remains)
        ),
    )
    after = await place.writes(name, vault)
    if case.repaired is not None:
        assert _since(broken, after) == sorted(case.repaired)
    looked = await place.resync(name, mode="check")
    assert looked["plan"] == [], looked
    assert looked["healthy"] is True, looked
    assert await place.writes(name, vault) == after


async def _gone(scene: Scene) -> None:
    """Wait until the account's entry is closed; its events and re-syncs say no more."""

    async def names() -> list[str]:
        return [item["name"] for item in (await scene.place.status())["accounts"]]

    await scene.place.until(names, lambda found: scene.name not in found, 60)
    looked = await scene.place.resync(scene.name, mode="check")
    assert causes(looked, "ok") == [], looked
    assert looked["plan"] == looked["steps"] == []


def _since(before: Sequence[str], now: Sequence[str]) -> list[str]:
    left = list(now)
    for item in before:
        left.remove(item)
    return left


@dataclass
class Played:
    """The situations under way, by name."""

    place: Place
    tasks: dict[str, asyncio.Task[None]]

    async def result(self, name: str) -> None:
        """Wait for a situation; raises what it raised."""
        await asyncio.shield(self.tasks[name])


@asynccontextmanager
async def open_place(run_dir: Path, **env: str) -> AsyncIterator[Place]:
    """Start a stack with a vault of the settings in it, and watch its status."""
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *", "DRIFT_SCHEDULE": "0 0 0 1 1 *"}
    async with (
        Stack(run_dir=run_dir, isolated=True, host_env=quiet | env, progress=str) as stack,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as http,
    ):
        place = Place(stack, http)
        await place.make_vault(MAIN, tenantId=TENANT)
        await place.put_secret(MAIN)
        place.watcher = asyncio.create_task(place.watch())
        try:
            yield place
        finally:
            place.watcher.cancel()
            await asyncio.wait([place.watcher])


def wanted(cases: Sequence[Situation], request: pytest.FixtureRequest) -> list[Situation]:
    """Return those that the tests of this run ask for: each costs seconds to play."""
    names = {
        item.callspec.params.get("case")
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and hasattr(item, "callspec")
    }
    return [case for case in cases if case.name in names]


@asynccontextmanager
async def playing(run_dir: Path, cases: Sequence[Situation], **env: str) -> AsyncIterator[Played]:
    """Start a stack and play all situations in it at once, as far as the host keeps up."""
    vaults = [f"kv-e2e-{number:03d}" for number in range(len(cases))]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(case: Situation, number: int, place: Place) -> None:
        async with limit:
            await play(case, Scene(place, f"acc-e2e-{number:03d}", vaults[number]))

    allowed = {"ALLOWED_VAULTS": ",".join([MAIN, *vaults])}
    async with open_place(run_dir, **(allowed | env)) as place:
        tasks = {
            case.name: asyncio.create_task(one(case, number, place))
            for number, case in enumerate(cases)
        }
        try:
            yield Played(place, tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
