"""What tests of rotation need: keys of their own, and which of them requests carried."""

import asyncio
import itertools
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from dev.tools.demo.cloud import Json
from tests.e2e.driver import Driver, until

_numbers = itertools.count(1)
IN_FLIGHT_S = 0.5
"""A request that began before the switch is answered within this time."""


@dataclass(frozen=True, repr=False)
class Key:
    """A W&B key of a test. `mark` is how the sandbox names it."""

    value: str

    @property
    def mark(self) -> str:
        return sha256(self.value.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return f"Key({self.mark})"


async def new_key(driver: Driver, **more: Any) -> Key:
    """Return a key that W&B knows; `more` is entity, state and the like."""
    key = Key(f"wandb_v1_{next(_numbers):077d}")
    await driver.control("PUT", "wandb/keys", {"key": key.value, "entity": "sandbox-team", **more})
    return key


async def revoke(driver: Driver, key: Key) -> None:
    body = {"key": key.value, "entity": "sandbox-team", "state": "revoked"}
    await driver.control("PUT", "wandb/keys", body)


async def looked_at(driver: Driver, version: str, seconds: float = 60) -> Json:
    """Wait until the app has decided about a version; return the key as shown."""
    last: Json | None = None

    async def look() -> Json | None:
        nonlocal last
        last = await driver.shown_key()
        return last if last and last["newest_version"] == version else None

    return await until(look, lambda: f"{version} was not looked at: {last}", seconds=seconds)


async def in_use(driver: Driver, version: str, seconds: float = 60) -> Json:
    """Wait until a version is the key in use; return the key as shown."""
    last: Json | None = None

    async def look() -> Json | None:
        nonlocal last
        last = await driver.shown_key()
        return last if last and last["version"] == version else None

    return await until(look, lambda: f"{version} is not in use: {last}", seconds=seconds)


async def forget_keys(driver: Driver) -> None:
    """Begin to count requests by key anew, without those that are on their way."""
    await pause(IN_FLIGHT_S)
    await driver.control("DELETE", "wandb/requests-by-key")


async def asked_by(driver: Driver, key: Key) -> set[str]:
    """Return what W&B was asked with a key: GraphQL fields, and `rows`."""
    return {
        "rows" if item["path"].endswith("/file_stream") else str(item["field"])
        for item in await driver.control("GET", "wandb/requests-by-key")
        if item["key_sha256"] == key.mark
    }


async def pause(seconds: float) -> None:
    """Let the product do what it must not do: only before assertions that nothing happened."""
    await asyncio.sleep(seconds)
