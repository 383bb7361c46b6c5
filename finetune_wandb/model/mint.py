"""A rotation in which the app itself makes the new W&B key: how far it has come.

Holds ids, names and versions, never a value: between W&B's answer and the vault a value is in
memory alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from finetune_wandb.model.secret import Secret, SecretRef, secret_at

MintState = Literal["idle", "intent", "minted", "stored", "switched"]
"""`idle`: nothing under way. `intent`: a key with `name` may have been made, its value is lost.
`minted`: a key with `key_id` was made and may be in the vault. `stored`: it is there as
`version`. `switched`: it is in use, the old key works still."""

TAG_ID = "wandb-key-id"
TAG_NAME = "wandb-key-name"
"""Tags of a secret's version that the app has stored: which W&B key is in it."""


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key that W&B has just made: the one time that its value is shown."""

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
    """The new key's description in W&B, by which it can be found again."""
    key_id: str = ""
    version: str = ""
    old_version: str = ""
    old_key_id: str = ""
    """Empty where nobody can tell which of W&B's keys the old one is."""
    began_at: datetime | None = None
    switched_at: datetime | None = None
    claimed_until: datetime | None = None
    """Until then one process works on it, and no other does."""
    retry_at: datetime | None = None
    cause: str = ""
    """Why the last step came to nothing, a code of the catalogue; empty when it did not."""
    lost: tuple[str, ...] = ()
    """Names of keys that may have been made and that the app may not look for."""

    def to_json(self) -> dict[str, Any]:
        vault, secret = self.secret.key
        return {"vault_host": vault, "secret": secret} | {
            name: read(getattr(self, name)) if read else getattr(self, name)
            for name, read in _FIELDS.items()
        }


def mint_from_json(data: Mapping[str, Any]) -> KeyMint:
    """Return what `to_json` was made from."""
    times = {name for name, read in _FIELDS.items() if read is _text}
    values: dict[str, Any] = {
        name: _moment(data.get(name)) if name in times else data[name]
        for name in _FIELDS
        if name in data
    }
    secret = secret_at(data["vault_host"], data["secret"])
    return KeyMint(secret=secret, **(values | {"lost": tuple(data.get("lost", ()))}))


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


_FIELDS: dict[str, Callable[[Any], Any] | None] = {
    "state": None,
    "name": None,
    "key_id": None,
    "version": None,
    "old_version": None,
    "old_key_id": None,
    "began_at": _text,
    "switched_at": _text,
    "claimed_until": _text,
    "retry_at": _text,
    "cause": None,
    "lost": list,
}
