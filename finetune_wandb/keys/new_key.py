"""The first half of a rotation: create a key in W&B, prove it, store it in the vault.

Between W&B's answer and the vault the value exists in memory only. Each step is recorded before
it is taken, so a key whose value was lost with the process is found by name or id and deleted.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from finetune_wandb.keys.proof import KeyPorts, prove_version
from finetune_wandb.model.accounts.key import (
    TAG_ID,
    TAG_NAME,
    KeyMint,
    KeyRecord,
    ListedKey,
    MintedKey,
)
from finetune_wandb.model.accounts.vault import SecretVersion
from finetune_wandb.model.audit import AuditEntry, key_entry, recorded
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings

TRIGGER: Final = "minted"
"""The audit's trigger for the changes of a rotation."""
_PREFIX: Final = "wandb-finetune-relay"
"""Start of the description of every key that the app creates."""
_PAUSE: Final = timedelta(days=1)
"""Pause before the next try if only a person can remove the obstacle."""
_STORE_WITHIN: Final = timedelta(minutes=5)
"""How long after the claim a key may be stored. A process that stalled for longer must not store a
key that another process has deleted meanwhile."""
_MOST_KEYS: Final = 100
"""Keys that W&B lets a user have (docs.coreweave.com, "Manage API keys", September 2026)."""
SETTLING_S: Final = (1.0, 3.0)
"""Pauses in seconds before W&B is asked again about a key that was just created or deleted."""
_NO_RIGHT: Final = frozenset({"ForbiddenByRbac", "AccessDenied"})
"""Key Vault's codes for a missing role or access policy."""


class MinterPort(Protocol):
    """The keys of the W&B user that a key belongs to."""

    async def generate(self, key: Secret, description: str) -> MintedKey:
        """Create a key. Raises DeniedError or RejectedError when W&B refuses; after a
        TemporaryError a key may exist."""
        ...

    async def list_keys(self, key: Secret) -> tuple[ListedKey, ...]:
        """Return all keys of that user. Raises DeniedError where W&B does not list them."""
        ...

    async def delete(self, key: Secret, key_id: str) -> None:
        """Delete a key; a no-op for one that does not exist. Raises DeniedError for another's."""
        ...


class SecretWriterPort(Protocol):
    """The part of a vault's data plane that stores new versions."""

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
        """Return the version with this tag value, None without one."""
        ...


class MintStore(Protocol):
    """The table of rotations."""

    async def read(self, secret: SecretRef) -> KeyMint | None: ...

    async def list_all(self) -> list[KeyMint]: ...

    async def write(self, before: KeyMint | None, after: KeyMint) -> None:
        """Replace the stored row `before` by `after`. Raises ConflictError if it has changed."""
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
    old_key_is_used: Callable[[SecretRef, datetime], Awaitable[bool]]
    """Returns whether something outside the app that began before a moment may still use the key
    that the secret held then."""


class Stop(Exception):
    """The rotation stops here for now; `mint` is the row to store."""

    def __init__(self, mint: KeyMint) -> None:
        super().__init__(mint.cause)
        self.mint = mint


class Rotation:
    """One process's work on one rotation.

    Mutable: `stored` is the row as this process knows it, `record` the key in use.
    """

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
        return await self.ports.look.secrets.read_version(self.secret, self.record.version)

    def new_name(self) -> str:
        """Return a unique description, to find the new key in W&B."""
        return f"{_PREFIX} {self.secret.vault.name}/{self.secret.name} {self.ports.new_id()}"

    async def delete(self, key_id: str) -> bool:
        """Delete a key; return whether W&B lets the key in use do that."""
        try:
            async with self.recorded("delete_key", key_id):
                await self.ports.minter.delete((await self.used()).value, key_id)
        except (DeniedError, RejectedError):
            return False
        return True

    async def discard(self, mint: KeyMint, cause: str, *, pause: bool) -> KeyMint:
        """Delete a key that will not be used; return the row of the abandoned rotation."""
        if not await self.delete(mint.key_id):
            mint = _lost(mint)
        return self.abandoned(mint, cause, pause=pause)

    def abandoned(self, mint: KeyMint, cause: str, *, pause: bool) -> KeyMint:
        """Return the row of a rotation that the next pass starts again; `pause`: a day later."""
        retry_at = self.ports.clock() + _PAUSE if pause else None
        return replace(mint, state="idle", key_id="", cause=cause, retry_at=retry_at)

    async def note(self, version: str, cause: str) -> None:
        """Add an entry about a version to the audit."""
        entry = key_entry(self.secret, version, cause, trigger=TRIGGER, at=self.ports.clock())
        await self.ports.look.audit.write(entry)

    def recorded(self, action: str, key_id: str = "") -> AbstractAsyncContextManager[None]:
        """Record the block's change of a key in W&B or the vault in the audit."""
        entry = AuditEntry(
            at=self.ports.clock(),
            action=action,
            subject=str(self.secret),
            outcome="begun",
            trigger=TRIGGER,
            detail={"key_id": key_id},
        )
        return recorded(self.ports.look.audit, entry)


def _lost(mint: KeyMint) -> KeyMint:
    """Return the row with its key added to those that a person has to find and delete."""
    return replace(mint, lost=tuple(dict.fromkeys((*mint.lost, mint.name))))


async def begin(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Record that a key will be created, and which one it replaces."""
    used = await rotation.used()
    return await rotation.write(
        replace(
            mint,
            state="intent",
            name=rotation.new_name(),
            key_id="",
            version="",
            old_version=used.version,
            old_key_id=used.tags.get(TAG_ID, ""),
            began_at=rotation.ports.clock(),
            switched_at=None,
        )
    )


async def clean_up(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Delete what an interrupted rotation has created: its value is lost."""
    key = (await rotation.used()).value
    try:
        for item in await rotation.ports.minter.list_keys(key):
            if item.description == mint.name:
                async with rotation.recorded("delete_key", item.id):
                    await rotation.ports.minter.delete(key, item.id)
    except DeniedError:
        # W&B lists keys for its own clients only: the status names the key instead.
        mint = await rotation.write(replace(_lost(mint), name=rotation.new_name()))
    return mint


async def make(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Create a key, prove it, store it. Raises Stop where W&B or the vault refuses."""
    used = await rotation.used()
    try:
        async with rotation.recorded("mint_key"):
            made = await rotation.ports.minter.generate(used.value, mint.name)
    except TemporaryError:
        raise
    except AppError:
        cause = "mint_limit" if await _is_full(rotation, used.value) else "mint_refused"
        raise Stop(rotation.abandoned(mint, cause, pause=True)) from None
    try:
        mint = await rotation.write(replace(mint, state="minted", key_id=made.id))
    except ConflictError:
        async with rotation.recorded("delete_key", made.id):
            await rotation.ports.minter.delete(used.value, made.id)
        raise
    await _prove(rotation, mint, made)
    return await _store(rotation, mint, made)


async def _is_full(rotation: Rotation, key: Secret) -> bool:
    try:
        return len(await rotation.ports.minter.list_keys(key)) >= _MOST_KEYS
    except AppError:
        return False


async def _prove(rotation: Rotation, mint: KeyMint, made: MintedKey) -> None:
    candidate = SecretVersion("", enabled=True, not_before=None, expires=None, value=made.value)
    secret = rotation.secret
    evidence = {"vault": secret.vault.name, "secret": secret.name, "version": ""}
    for pause in (*SETTLING_S, None):
        look = await prove_version(
            candidate,
            rotation.record,
            evidence,
            ports=rotation.ports.look,
            settings=rotation.settings,
        )
        if look.failure is None:
            return
        if pause is not None:
            await rotation.ports.wait(pause)
    # Neither proved nor stored: a later pass creates another one.
    cause = "mint_unavailable" if look.temporary else "mint_not_accepted"
    raise Stop(await rotation.discard(mint, cause, pause=not look.temporary))


async def _store(rotation: Rotation, mint: KeyMint, made: MintedKey) -> KeyMint:
    now = rotation.ports.clock()
    if now - rotation.claimed_at > _STORE_WITHIN:
        raise Stop(await rotation.discard(mint, "mint_unavailable", pause=False))
    if await _is_overtaken(rotation, mint):
        raise Stop(await rotation.discard(mint, "mint_overtaken", pause=False))
    try:
        async with rotation.recorded("store_key", made.id):
            version = await rotation.ports.writer.write_version(
                rotation.secret,
                made.value,
                expires=now + timedelta(days=rotation.settings.rotation_lifetime_days),
                tags={TAG_ID: made.id, TAG_NAME: mint.name},
            )
    except ConflictError:
        # A deleted secret holds the name, or the vault is being changed.
        raise Stop(await rotation.discard(mint, "mint_store_refused", pause=True)) from None
    except TemporaryError:
        # It may be stored nevertheless: the next pass looks.
        raise
    except AppError as error:
        cause = "mint_store_denied" if error.code in _NO_RIGHT else "mint_store_refused"
        raise Stop(await rotation.discard(mint, cause, pause=True)) from None
    return await rotation.write(replace(mint, state="stored", version=version))


async def _is_overtaken(rotation: Rotation, mint: KeyMint) -> bool:
    """Whether another version was stored since the last look: the app must not hide it."""
    try:
        newest = (await rotation.ports.look.secrets.read_newest(rotation.secret)).version
    except (DeniedError, MissingError):
        newest = ""
    return (rotation.record.version, rotation.record.newest_version) != (mint.old_version, newest)


async def find_or_begin_again(rotation: Rotation, mint: KeyMint) -> KeyMint:
    """Continue with the key if it was stored after all; otherwise delete it and create another."""
    version = await _stored_version(rotation, mint)
    if version:
        return await rotation.write(replace(mint, state="stored", version=version))
    if not await rotation.delete(mint.key_id):
        mint = _lost(mint)
    mint = replace(mint, state="intent", key_id="", name=rotation.new_name())
    return await make(rotation, await rotation.write(mint))


async def _stored_version(rotation: Rotation, mint: KeyMint) -> str:
    ports = rotation.ports
    try:
        found = await ports.writer.find_version(rotation.secret, TAG_NAME, mint.name)
    except DeniedError:
        # The app may not list versions; the one stored last is the newest one.
        newest = await ports.look.secrets.read_newest(rotation.secret)
        found = newest.version if newest.tags.get(TAG_NAME) == mint.name else None
    return found or ""
