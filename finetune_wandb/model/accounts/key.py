"""A W&B key as the app knows it: which version is in use, for whom and why; and the progress of a
rotation in which the app creates the new key.

The value is only in `RunKey`, `KeyReport`, `MintedKey` and `SecretVersion`, masked.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from finetune_wandb.model.accounts.report import Finding
from finetune_wandb.model.secret import Secret, SecretRef

WriteRight = Literal["write", "read_only", "refused", "new_project", "unknown"]
"""What W&B says about a key and a project. `refused`: it shows this key nothing there.
`new_project`: W&B creates the project with its first run. `unknown`: W&B does not say."""


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """What W&B says about a key: its own entity, and all entities that it belongs to."""

    entity: str
    entities: tuple[str, ...]

    def may_write(self, entity: str) -> bool:
        """Return whether the key belongs to `entity`; W&B names ignore case."""
        return bool(self.spelled(entity))

    def spelled(self, entity: str) -> str:
        """Return `entity` in W&B's spelling, empty if the key does not belong to it."""
        wanted = entity.casefold()
        return next((name for name in self.entities if name.casefold() == wanted), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What the keys table holds of one secret. Times are UTC."""

    secret: SecretRef
    version: str = ""
    """The version in use: the last one that W&B accepted. Empty: none was accepted yet."""
    entity: str = ""
    entities: tuple[str, ...] = ()
    accepted_at: datetime | None = None
    expires_at: datetime | None = None
    trigger: str = ""
    """What put the version into use: an event, a pass, a re-sync."""
    newest_version: str = ""
    """The version of the last look; differs from `version` if it was not accepted."""
    newest_cause: str = ""
    """Cause code of the last look at the newest version."""
    checked_at: datetime | None = None
    refused_at: datetime | None = None
    """Since when W&B refuses the version in use; None while it accepts it. It stays the version
    in use until a better one is proved, but no request carries it meanwhile."""
    disabled: bool = False
    """Whether a person has disabled the version in use in the vault: no request carries it then."""
    told: str = ""
    """The `news` that was published last."""
    etag: str = field(default="", compare=False)
    """The stored row's tag, so that a slower writer cannot undo a faster one."""

    @property
    def owner(self) -> KeyOwner | None:
        """The owner of the key in use; None without one."""
        return KeyOwner(self.entity, self.entities) if self.version else None

    @property
    def news(self) -> str:
        """What is worth a notice, as text to compare; empty before the first look."""
        if not self.newest_version and not self.newest_cause:
            return ""
        refused = "refused" if self.refused_at or self.disabled else ""
        return "|".join((self.version, self.newest_version, self.newest_cause, refused))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """The outcome of looking at a secret's newest version."""

    record: KeyRecord
    """What is in use after the look."""
    findings: tuple[Finding, ...]
    """About the secret in the vault (exists, enabled, in date), then about its value: whether W&B
    accepts it, and for the right entity."""
    newest_version: str = ""
    temporary: bool = False
    """True: the look failed for a temporary reason."""
    retry_after_s: float | None = None
    value: Secret | None = None
    """The version in use, if this look read it."""


MintState = Literal["idle", "intent", "minted", "stored", "switched"]
"""`idle`: no rotation. `intent`: a key with `name` may exist, its value is lost. `minted`: a key
with `key_id` exists and may be in the vault. `stored`: it is there as `version`. `switched`: it is
in use, and the old key still works."""

TAG_ID = "wandb-key-id"
TAG_NAME = "wandb-key-name"
"""Tags of a version that the app stored: which W&B key it holds."""


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key: W&B shows its value only in this answer."""

    id: str
    value: Secret


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as W&B lists it, without its value."""

    id: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMint:
    """What the table holds about the rotation of one secret. Times are UTC."""

    secret: SecretRef
    state: MintState = "idle"
    name: str = ""
    """The new key's description in W&B, to find it again."""
    key_id: str = ""
    version: str = ""
    old_version: str = ""
    old_key_id: str = ""
    """Empty if it is unknown which of W&B's keys the old one is."""
    began_at: datetime | None = None
    switched_at: datetime | None = None
    claimed_until: datetime | None = None
    """Until then one process works on it and all others leave it alone."""
    retry_at: datetime | None = None
    cause: str = ""
    """Cause code of the last step's failure; empty if it succeeded."""
    lost: tuple[str, ...] = ()
    """Names of keys that may exist and that the app may not search for."""
