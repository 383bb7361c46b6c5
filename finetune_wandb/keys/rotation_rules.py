"""Rules of rotation: when it is due, what a new key is called, which old key it replaces."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding
from finetune_wandb.model.key import KeyRecord
from finetune_wandb.model.mint import KeyMint, ListedKey
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import Settings

_PREFIX: Final = "wandb-finetune-relay"
"""How the descriptions begin of all keys that the app has made."""


def is_due(record: KeyRecord | None, settings: Settings, now: datetime) -> bool:
    """Return whether the key in use is so near its end that a new one is to be made.

    A key without an end is never due, and one that W&B refuses cannot make another.
    """
    if record is None or not record.version or record.refused_at or record.expires_at is None:
        return False
    return record.expires_at - now <= lead(settings)


def lead(settings: Settings) -> timedelta:
    """Return how long before its end a key is replaced: never over half of its life, or a new
    key would be due at once."""
    return timedelta(days=min(settings.rotation_before_days, settings.rotation_lifetime_days / 2))


def has_work(mint: KeyMint, record: KeyRecord | None, settings: Settings, now: datetime) -> bool:
    """Return whether a rotation is to be begun or to go on now."""
    if mint.claimed_until is not None and now < mint.claimed_until:
        return False
    if mint.retry_at is not None and now < mint.retry_at:
        return False
    if mint.state == "idle":
        return is_due(record, settings, now)
    if mint.state == "switched":
        return grace_is_over(mint, settings, now)
    return True


def grace_is_over(mint: KeyMint, settings: Settings, now: datetime) -> bool:
    """Return whether the old key has been out of use for long enough."""
    if mint.switched_at is None:
        return False
    return now - mint.switched_at >= timedelta(hours=settings.rotation_grace_hours)


def key_name(secret: SecretRef, unique: str) -> str:
    """Return the description under which a new key can be found in W&B again."""
    return f"{_PREFIX} {secret.vault.name}/{secret.name} {unique}"


def old_key(listed: Sequence[ListedKey]) -> str:
    """Return the id of the key in use where it was made by a person, empty when in doubt.

    It is one of its owner's keys: where there is only one, that is it. Which of several it is,
    W&B does not say, and a wrong guess would delete a key that something else lives on.
    """
    return listed[0].id if len(listed) == 1 else ""


def rotation_findings(mint: KeyMint) -> list[Finding]:
    """Return what is to be said about a secret's rotation."""
    evidence = {"vault": mint.secret.vault.name, "secret": mint.secret.name}
    found: list[Finding] = []
    if mint.cause:
        found.append(finding(mint.cause, **evidence, old_version=mint.old_version))
    elif mint.state == "switched":
        found.append(finding("rotation_grace", **evidence, old_version=mint.old_version))
    else:
        found.append(
            finding("rotation_idle" if mint.state == "idle" else "rotation_under_way", **evidence)
        )
    if mint.lost:
        found.append(finding("mint_lost", **evidence, names=", ".join(mint.lost)))
    return found
