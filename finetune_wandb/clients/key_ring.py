"""Returns the key in use: its version from the table, at most a second old; its value from memory
or the vault.

Rotation relies on this promise: a request that gets its key here before it starts carries no
version that was replaced more than `FRESH_S` (and one read of the table) ago, in any process; in
the process that replaced it, no replaced version at all. A version that was not accepted, that W&B
refuses or that a person disabled is never returned. Decides nothing about keys.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from finetune_wandb.clients.azure.vaults import KeyVault
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.accounts.ports import KeyStore
from finetune_wandb.model.errors import DeniedError, MissingError
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.single_flight import SingleFlight

FRESH_S: Final = 1.0
"""How long a record may be used, counted from the start of its read."""
_MOST: Final = 256


class KeyRing:
    """KeysPort. One per process. Values are kept by secret and version, which never change."""

    def __init__(
        self, keys: KeyStore, vault: KeyVault, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._vault = vault
        self._clock = clock
        self._records: SingleFlight[SecretRef, KeyRecord | None] = SingleFlight(_MOST)
        self._values: SingleFlight[tuple[SecretRef, str], Secret] = SingleFlight(_MOST)

    async def run_key(self, secret: SecretRef) -> RunKey:
        """Return the last accepted version's key; the key comes back here for each request.

        Raises MissingError while none was accepted, DeniedError with code 401 while W&B refuses
        it, and what table or vault raise: without a fresh record, no key is returned.
        """
        record = await self._record(secret)
        while True:
            accepted = _accepted(secret, record)
            version = (secret, accepted.version)
            value = await self._values.get(version, partial(self._read, *version))
            # Reading the vault takes a while, so the version in use is checked again after it.
            record = await self._record(secret)
            if record == accepted:
                return RunKey(accepted.entity, value, partial(self._current, secret))

    async def _current(self, secret: SecretRef) -> Secret:
        return (await self.run_key(secret)).value

    def note(self, record: KeyRecord) -> None:
        """Use a record that this process has just written from now on."""
        self._records.put(record.secret, record, self._clock())

    async def _record(self, secret: SecretRef) -> KeyRecord | None:
        return await self._records.get(
            secret,
            lambda: self._keys.read(secret),
            now=self._clock(),
            fresh=lambda asked_at: self._clock() - asked_at < FRESH_S,
        )

    async def _read(self, secret: SecretRef, version: str) -> Secret:
        return (await self._vault.read_version(secret, version)).value


def _accepted(secret: SecretRef, record: KeyRecord | None) -> KeyRecord:
    """Return a record whose version may be used. Raises MissingError or DeniedError."""
    if record is None or not record.version:
        raise MissingError(
            "no version of the secret was accepted by W&B yet",
            subject=str(secret),
            code=(record.newest_cause if record else "") or "key_unknown",
            remedy="store a valid W&B key in the secret; /api/status says what is wrong with the"
            " newest version",
        )
    if record.disabled or record.refused_at is not None:
        obstacle = "is disabled in the vault" if record.disabled else "is not accepted by W&B"
        raise DeniedError(
            f"the key in use {obstacle}",
            subject=str(secret),
            code="401",
            remedy="store a valid W&B key as a new version of the secret; the relay resumes with it",
        )
    return record
