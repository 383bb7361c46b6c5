"""What a pass reads and writes through, and the facts that accounts share, read once for all.

200 accounts share one vault and one key, and their messages are handled at the same time. A fact
is reused for a minute, and only if it was read after the message that needs it was sent, so it
includes the change that caused the message. Decides nothing about the facts.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from finetune_wandb.keys.proof import KeyPorts
from finetune_wandb.model.accounts.ports import AccountPort, RolePort, VaultPort
from finetune_wandb.model.single_flight import SingleFlight

KEEP_FOR = timedelta(seconds=60)
_MOST_FACTS = 1024


class SharedReads:
    """A cache with one reader per fact; later callers wait for it.

    A vault is kept under its address, a look at a key under its secret, role assignments under
    their scope in lower case.
    """

    def __init__(self) -> None:
        self._facts: SingleFlight[Hashable, Any] = SingleFlight(_MOST_FACTS)
        self._turns: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    async def get[T](
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        *,
        now: datetime,
        fresh_after: datetime,
        keep: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return the fact, from the cache if young enough. What `keep` refuses is not cached.

        `now` is when the caller's pass began: a fact counts as read at that earlier time.
        """
        at, since = now.timestamp(), fresh_after.timestamp()
        fact: T = await self._facts.get(
            key,
            read,
            now=at,
            fresh=lambda asked_at: asked_at >= since and at - asked_at < KEEP_FOR.total_seconds(),
            keep=keep,
        )
        return fact

    def amend(self, key: Hashable, change: Callable[[Any], Any]) -> None:
        """Update a cached fact after a write of the app, so that no pass has to read it again."""
        self._facts.amend(key, change)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Run the block for one caller at a time per key, within this process.

        Azure raises two events for one create; two passes at once would each make every write.
        """
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._turns[key]
            if users > 1:
                self._turns[key] = (lock, users - 1)
            else:
                del self._turns[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePorts(KeyPorts):
    """Everything a pass reads and writes through."""

    accounts: AccountPort
    vaults: VaultPort
    roles: RolePort
    own_principal: Callable[[], Awaitable[str]]
    """Object id of the app's own identity, in lower case."""
    shared: SharedReads = field(default_factory=SharedReads)
