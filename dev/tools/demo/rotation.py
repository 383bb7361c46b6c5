"""The key is rotated while a job trains: a new version in the vault, proved, then in use."""

import asyncio
from hashlib import sha256
from typing import Final

from dev.tools.demo.cloud import Cloud, Json, until
from dev.tools.demo.screen import Screen

_SETTLING_S: Final = 1.0
"""A pass that began with the old key ends within this time."""


class Rotation:
    """One rotation, and the watch over which key requests carry from then on."""

    def __init__(self, cloud: Cloud, screen: Screen, *, first: str, second: str) -> None:
        self._cloud = cloud
        self._screen = screen
        self._first_value = first
        self._first = _mark(first)
        self._second_value = second
        self._second = _mark(second)
        self.version = ""
        """The new version, once it is in use."""

    @property
    def watches(self) -> bool:
        """Whether the two keys can be told apart."""
        return self._first != self._second

    async def play(self) -> None:
        """Store the new version and wait until the app has proved it. Raises StoryError."""
        version = await self._cloud.put_secret(self._second_value)
        self._screen.say(f"a new version of the W&B key is stored ({version[:8]}…)")
        last: Json = {}

        async def look() -> Json | None:
            nonlocal last
            last = await self._cloud.shown_key() or {}
            return last if last.get("version") == version else None

        key = await until(
            look, lambda: f"the new key is not in use: {last.get('newest_cause') or last}"
        )
        self.version = version
        self._screen.good(
            f"proved with W&B and in use: version {version[:8]}…, entity {key['entity']}, "
            "no restart"
        )

    async def start_watch(self) -> None:
        """Wait until rows go out with the new key, revoke the old one, and count from here."""

        async def look() -> bool | None:
            counts = await self._posts()
            return True if counts.get(self._second) else None

        await until(look, "no request to W&B carries the new key")
        await asyncio.sleep(_SETTLING_S)
        revoked = {"key": self._first_value, "state": "revoked"}
        await self._cloud.control("PUT", "wandb/keys", revoked)
        await self._cloud.control("DELETE", "wandb/requests-by-key")
        self._screen.good("rows go out with the new key; the old one is revoked in W&B")

    async def counts(self) -> tuple[int, int]:
        """Return the requests for rows since the watch began: (old key, new key)."""
        counts = await self._posts()
        return counts.get(self._first, 0), counts.get(self._second, 0)

    async def _posts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for item in await self._cloud.control("GET", "wandb/requests-by-key"):
            if str(item["path"]).endswith("/file_stream"):
                mark = str(item["key_sha256"])
                found[mark] = found.get(mark, 0) + int(item["count"])
        return found


def _mark(key: str) -> str:
    """Return how the sandbox names a key: it shows the start of a digest, never a value."""
    return sha256(key.encode()).hexdigest()[:12]
