"""Hands out the key in use: which version that is, from the table every time; its value, from
memory or the vault.

So a version taken into use anywhere is used by every process with its next request, and a
version that was not accepted is never handed out. Decides nothing about keys.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

from clients.key_vault import KeyVault
from model.errors import MissingError
from model.ids import parse_vault_url
from model.key import KeyInUse, KeyRecord
from model.secret import Secret

_MOST_VALUES = 256


class KeyReader(Protocol):
    """Where it is recorded which version is in use."""

    async def read(self, vault_host: str, secret: str) -> KeyRecord | None: ...


class KeyRing:
    """One per process. Values are kept by vault, secret and version, which never change."""

    def __init__(self, keys: KeyReader, vault: KeyVault) -> None:
        self._keys = keys
        self._vault = vault
        self._values: OrderedDict[tuple[str, str, str], asyncio.Task[Secret]] = OrderedDict()

    async def key_in_use(self, vault_host: str, secret: str) -> KeyInUse:
        """Return the last accepted version. Raises MissingError while none was accepted."""
        record = await self._keys.read(vault_host, secret)
        if record is None or not record.version:
            raise MissingError(
                "no version of the secret was accepted by W&B yet",
                subject=f"{vault_host}/secrets/{secret}",
                code=(record.newest_cause if record else "") or "key_unknown",
                remedy="store a valid W&B key in the secret; /api/status says what is wrong with"
                " the newest version",
            )
        value = await self._value(vault_host.lower(), secret.lower(), record.version)
        return KeyInUse(record.version, record.entity, value)

    def invalidate(self) -> None:
        """Forget every value, so that the next request reads the vault again."""
        self._values.clear()

    async def _value(self, vault_host: str, secret: str, version: str) -> Secret:
        place = (vault_host, secret, version)
        task = self._values.get(place)
        if task is None or task.cancelled():
            task = asyncio.ensure_future(self._fetch(vault_host, secret, version))
            self._values[place] = task
            if len(self._values) > _MOST_VALUES:
                self._values.popitem(last=False)
        self._values.move_to_end(place)
        try:
            # Many relays ask at once; one that is cancelled must not fail the others.
            return await asyncio.shield(task)
        except Exception:
            if self._values.get(place) is task:
                del self._values[place]
            raise

    async def _fetch(self, vault_host: str, secret: str, version: str) -> Secret:
        vault = parse_vault_url(f"https://{vault_host}")
        return (await self._vault.read_version(vault, secret, version)).value
