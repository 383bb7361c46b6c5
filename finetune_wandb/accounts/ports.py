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
from typing import Any, cast

from finetune_wandb.keys.ports import KeyPorts
from finetune_wandb.model.ports import (
    AccountPort,
    RolePort,
    VaultPort,
)
from finetune_wandb.model.secret import SecretRef

KEEP_FOR = timedelta(seconds=60)
_MOST_ENTRIES = 1024


def vault_key(host: str) -> tuple[str, str]:
    """Return the name under which a vault is shared between accounts."""
    return ("vault", host)


def key_key(secret: SecretRef) -> tuple[str, SecretRef]:
    """Return the name under which a look at a key is shared between those who use it."""
    return ("key", secret)


def assignments_key(scope: str) -> tuple[str, str]:
    """Return the name under which a scope's role assignments are shared between accounts."""
    return ("assignments", scope.lower())


@dataclass(slots=True)
class _Entry:
    asked_at: datetime
    answer: asyncio.Future[Any]

    def serves(self, now: datetime, fresh_after: datetime) -> bool:
        return (
            not self.answer.cancelled()
            and self.asked_at >= fresh_after
            and now - self.asked_at < KEEP_FOR
        )


class SharedReads:
    """A cache with one reader per fact; later callers wait for it."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
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
        """Return the fact, from the cache when young enough. What `keep` refuses is not kept.

        `now` is when the caller's pass began: a fact counts as read at that earlier time.
        """
        entry = self._entries.get(key)
        if entry is None or not entry.serves(now, fresh_after):
            entry = _Entry(now, asyncio.ensure_future(_run(read)))
            self._make_room(now)
            self._entries[key] = entry
        try:
            # One caller that is cancelled must not take the others' answer away.
            fact = cast("T", await asyncio.shield(entry.answer))
        except Exception:  # raised on: only what failed must not be kept
            self._drop(key, entry)
            raise
        if not keep(fact):
            self._drop(key, entry)
        return fact

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Let one after the other do what the block does, as far as this process goes.

        Azure tells of one create twice; two passes at once would each make every write.
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

    def amend(self, key: Hashable, change: Callable[[Any], Any]) -> None:
        """Bring a kept fact up to date with an own write, so that nobody has to read it again."""
        entry = self._entries.get(key)
        if entry is None or not entry.answer.done() or entry.answer.cancelled():
            # Still being read: whether that reading saw the write is unknown.
            self._entries.pop(key, None)
            return
        changed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        changed.set_result(change(entry.answer.result()))
        self._entries[key] = _Entry(entry.asked_at, changed)

    def _drop(self, key: Hashable, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]

    def _make_room(self, now: datetime) -> None:
        if len(self._entries) >= _MOST_ENTRIES:
            self._entries = {
                key: entry
                for key, entry in self._entries.items()
                if now - entry.asked_at < KEEP_FOR
            }


async def _run[T](read: Callable[[], Awaitable[T]]) -> T:
    return await read()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePorts(KeyPorts):
    """Everything a pass reads and writes through."""

    accounts: AccountPort
    vaults: VaultPort
    roles: RolePort
    shared: SharedReads = field(default_factory=SharedReads)
