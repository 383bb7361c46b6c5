"""One process's work on one rotation: what it knows, and the acts that several steps share."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from finetune_wandb.keys.rotation_ports import RotationPorts
from finetune_wandb.keys.rotation_rules import key_name
from finetune_wandb.model.errors import DeniedError, RejectedError
from finetune_wandb.model.key import KeyChange, KeyRecord
from finetune_wandb.model.mint import KeyMint
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.vault import SecretVersion

_PAUSE: Final = timedelta(days=1)
"""Before a refusal is tried again that only people can mend."""
TRIGGER: Final = "minted"
"""What the audit says of changes that a rotation has made."""


class Stop(Exception):
    """The rotation goes no further now; `mint` is the row that says so."""

    def __init__(self, mint: KeyMint) -> None:
        super().__init__(mint.cause)
        self.mint = mint


class Work:
    """Mutable: `stored` is the row as this process knows it, `record` the key in use."""

    def __init__(
        self,
        secret: SecretRef,
        *,
        ports: RotationPorts,
        settings: Settings,
        record: KeyRecord,
        stored: KeyMint | None,
    ) -> None:
        self.secret = secret
        self.ports = ports
        self.settings = settings
        self.record = record
        self.stored = stored
        self.claimed_at = ports.clock()

    async def write(self, mint: KeyMint) -> KeyMint:
        """Store the row. Raises ConflictError when another process has taken over."""
        await self.ports.mints.write(self.stored, mint)
        self.stored = mint
        return mint

    async def used(self) -> SecretVersion:
        """Return the version in use, with its key."""
        return await self.ports.reconcile.secrets.read_version(self.secret, self.record.version)

    def new_name(self) -> str:
        """Return a description that no other key has."""
        return key_name(self.secret, self.ports.new_id())

    async def delete(self, key_id: str) -> bool:
        """Delete a key; say whether the key in use has the right to."""
        try:
            await self.ports.minter.delete((await self.used()).value, key_id)
        except (DeniedError, RejectedError):
            return False
        return True

    async def discard(self, mint: KeyMint, cause: str, *, pause: bool) -> KeyMint:
        """Delete a key that will not be used; return the row of a rotation that is given up."""
        if not await self.delete(mint.key_id):
            mint = lost(mint)
        return given_up(mint, cause, self.ports.clock(), pause=pause)

    async def audit(self, version: str, cause: str) -> None:
        """Add a line to the audit of the secret."""
        await self.ports.reconcile.keys.append_change(
            KeyChange(
                at=self.ports.clock(),
                secret=self.secret,
                version=version,
                entity="",
                accepted=False,
                cause=cause,
                trigger=TRIGGER,
            )
        )


def given_up(mint: KeyMint, cause: str, now: datetime, *, pause: bool) -> KeyMint:
    """Return the row of a rotation that is begun anew: by the next pass, or after a day where
    only people can mend what is in its way."""
    return replace(
        mint, state="idle", key_id="", cause=cause, retry_at=now + _PAUSE if pause else None
    )


def lost(mint: KeyMint) -> KeyMint:
    """Return the row with its key among those that people have to look for."""
    return replace(mint, lost=tuple(dict.fromkeys((*mint.lost, mint.name))))
