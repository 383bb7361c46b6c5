"""Hands out the key in use: which version that is, from the table at most a second old; its
value, from memory or the vault.

The promise that rotation stands on: a request that asks here before it starts carries no
version that was replaced more than `FRESH_S` (and one read of the table) ago, in any process,
and none that was replaced at all in the process that replaced it. A version that was not
accepted is never handed out, nor one that W&B refuses. Decides nothing about keys.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from finetune_wandb.clients.azure.key_vault import KeyVault
from finetune_wandb.model.errors import DeniedError, MissingError
from finetune_wandb.model.key import KeyInUse, KeyRecord
from finetune_wandb.model.secret import Secret, SecretRef

FRESH_S: Final = 1.0
"""How long a record that was read may be used, counted from the moment it was asked for."""
_MOST_VALUES: Final = 256


class KeyReader(Protocol):
    """Where it is recorded which version is in use."""

    async def read(self, secret: SecretRef) -> KeyRecord | None: ...


class _Known:
    """A record and when it was asked for."""

    __slots__ = ("asked_at", "record")

    def __init__(self, asked_at: float, record: "asyncio.Future[KeyRecord | None]") -> None:
        self.asked_at = asked_at
        self.record = record


class KeyRing:
    """One per process. Values are kept by vault, secret and version, which never change."""

    def __init__(
        self,
        keys: KeyReader,
        vault: KeyVault,
        clock: Callable[[], float] = time.monotonic,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._keys = keys
        self._vault = vault
        self._clock = clock
        self._fresh_s = fresh_s
        self._known: dict[SecretRef, _Known] = {}
        self._values: OrderedDict[tuple[SecretRef, str], asyncio.Task[Secret]] = OrderedDict()

    async def key_in_use(self, secret: SecretRef) -> KeyInUse:
        """Return the last accepted version.

        Raises MissingError while none was accepted, DeniedError with code 401 while W&B refuses
        it, and what table or vault raise: without a record that is fresh, nothing is handed out.
        """
        while True:
            record = await self._record(secret)
            if record is None or not record.version:
                raise _none_accepted(secret, record)
            if record.refused_at is not None:
                raise _refused(secret, record)
            task = self._values.get((secret, record.version))
            if task is not None and task.done() and not task.cancelled() and not task.exception():
                return KeyInUse(record.version, record.entity, task.result())
            # Reading the vault takes its time: which version is in use is asked again after it.
            await self._value(secret, record.version)

    def note(self, record: KeyRecord) -> None:
        """Take up a record that this process has just written: from now on it is what holds."""
        known: asyncio.Future[KeyRecord | None] = asyncio.get_running_loop().create_future()
        known.set_result(record)
        self._known[record.secret] = _Known(self._clock(), known)

    async def _record(self, secret: SecretRef) -> KeyRecord | None:
        while True:
            known = self._known.get(secret)
            if known is None or self._clock() - known.asked_at >= self._fresh_s:
                reading = asyncio.ensure_future(self._keys.read(secret))
                known = self._known[secret] = _Known(self._clock(), reading)
            if not known.record.done():
                try:
                    # Many requests wait for one read; one that is cancelled must not end it.
                    await asyncio.shield(known.record)
                except Exception:  # raised on: only what failed must not be kept
                    self._forget(secret, known)
                    raise
            if self._known.get(secret) is known:
                return known.record.result()
            # Replaced while it was read: what was read may be the older of the two.

    def _forget(self, secret: SecretRef, known: _Known) -> None:
        if self._known.get(secret) is known:
            del self._known[secret]

    async def _value(self, secret: SecretRef, version: str) -> None:
        place = (secret, version)
        task = self._values.get(place)
        if task is None or task.cancelled():
            task = asyncio.ensure_future(self._fetch(secret, version))
            self._values[place] = task
            if len(self._values) > _MOST_VALUES:
                self._values.popitem(last=False)
        self._values.move_to_end(place)
        try:
            await asyncio.shield(task)
        except Exception:  # raised on: only what failed must not be kept
            if self._values.get(place) is task:
                del self._values[place]
            raise

    async def _fetch(self, secret: SecretRef, version: str) -> Secret:
        return (await self._vault.read_version(secret, version)).value


def _none_accepted(secret: SecretRef, record: KeyRecord | None) -> MissingError:
    return MissingError(
        "no version of the secret was accepted by W&B yet",
        subject=str(secret),
        code=(record.newest_cause if record else "") or "key_unknown",
        remedy="store a valid W&B key in the secret; /api/status says what is wrong with the"
        " newest version",
    )


def _refused(secret: SecretRef, record: KeyRecord) -> DeniedError:
    return DeniedError(
        "W&B does not accept the key in use",
        subject=str(secret),
        code="401",
        remedy="store a valid W&B key as a new version of the secret; relaying resumes by itself",
    )
