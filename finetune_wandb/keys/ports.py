"""What proving and rotating a key needs from the network. Clients and fakes satisfy these."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from finetune_wandb.model.key import KeyMint, ListedKey, MintedKey
from finetune_wandb.model.ports import KeyStore, ProverPort, SecretPort
from finetune_wandb.model.secret import Secret, SecretRef


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPorts:
    """What a look at a key reads and writes through."""

    secrets: SecretPort
    prover: ProverPort
    keys: KeyStore


class MinterPort(Protocol):
    """The keys of the W&B user that a key belongs to."""

    async def generate(self, key: Secret, description: str) -> MintedKey:
        """Make one more key. Raises DeniedError or RejectedError when W&B refuses; after a
        TemporaryError a key may have been made."""
        ...

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        """Return all keys of that user. Raises DeniedError where W&B does not list them."""
        ...

    async def delete(self, key: Secret, key_id: str) -> None:
        """Delete a key; a no-op for one that does not exist. Raises DeniedError for another's."""
        ...


class SecretWriterPort(Protocol):
    """The vault's data plane, as far as new versions go."""

    async def write_version(
        self,
        secret: SecretRef,
        value: Secret,
        *,
        expires: datetime,
        tags: Mapping[str, str],
    ) -> str:
        """Store a new version and return its name."""
        ...

    async def find_version(self, secret: SecretRef, tag: str, value: str) -> str | None:
        """Return the version that carries a tag with this value, None when none does."""
        ...


class MintStore(Protocol):
    """The table of rotations."""

    async def read(self, secret: SecretRef) -> KeyMint | None: ...

    async def list_all(self) -> list[KeyMint]: ...

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        """Store `after` where `before` stands. Raises ConflictError when something else does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPorts:
    """Everything a rotation reads and writes through."""

    look: KeyPorts
    minter: MinterPort
    writer: SecretWriterPort
    mints: MintStore
    clock: Callable[[], datetime]
    """The time in UTC: a slow rotation must notice that its claim has run out."""
    new_id: Callable[[], str]
    """Returns unique text."""
    wait: Callable[[float], Awaitable[None]]
    """Waits for a number of seconds."""
    old_key_is_used: Callable[[KeyMint], Awaitable[bool]]
    """Returns whether something outside the app is known to use the old key still."""
