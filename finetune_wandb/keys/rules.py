"""Rules about one version of a secret and its key: dates, shape, whose key it must be."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding
from finetune_wandb.model.key import KeyOwner, KeyRecord
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.vault import SecretVersion

_SHAPE = re.compile(r"[A-Za-z0-9_.-]{40,512}")
"""40 characters is the old shape (with a prefix on self-hosted servers), about 86 the new one;
an upper limit is not documented, so that it is generous."""

WARN_DAYS = (1, 7, 30)
"""How near an end is worth a finding, nearest first, in days."""


def refusal_before_proof(
    found: SecretVersion, now: datetime, evidence: Mapping[str, str]
) -> Finding | None:
    """Return why a version is not to be tried at all, None when it may be."""
    if not found.enabled:
        return finding("secret_disabled", **evidence)
    if found.not_before and found.not_before > now:
        return finding("secret_not_yet_valid", **evidence, not_before=iso(found.not_before))
    if found.expires and found.expires <= now:
        return finding("secret_expired", **evidence, expires=iso(found.expires))
    if not _SHAPE.fullmatch(found.value.reveal()):
        return finding("key_malformed", **evidence)
    return None


def entity_for(owner: KeyOwner, before: KeyRecord, settings: Settings) -> tuple[str, str]:
    """Return (entity that runs go to with this key, entity that was wanted).

    The first is empty when the key does not belong to the wanted one. Wanted is what the
    settings name, else the entity of the key in use, else the key's own.
    """
    own = owner.entity or next(iter(owner.entities), "")
    named = owner.spelled(settings.wandb_entity) or settings.wandb_entity
    wanted = named or before.entity or own
    return (wanted, wanted) if wanted and owner.may_write(wanted) else ("", wanted)


def nearness(expires: datetime | None, now: datetime) -> str:
    """Return how near an end is: `30 days`, `7 days`, `1 days`, `over`, or empty for far off."""
    if expires is None:
        return ""
    if expires <= now:
        return "over"
    left = (expires - now).total_seconds() / 86400
    return next((f"{days} days" for days in WARN_DAYS if left <= days), "")


def expiry_findings(
    expires: datetime | None, now: datetime, evidence: Mapping[str, str], *, ended: bool
) -> list[Finding]:
    """Return what is to be said about the end of the version in use.

    `ended` says whether an end that has come is to be reported too.
    """
    if expires is None:
        return [finding("secret_no_expiry", **evidence)]
    within = nearness(expires, now)
    if within == "over":
        return [finding("secret_expired", **evidence, expires=iso(expires))] if ended else []
    if within:
        return [finding("secret_expires_soon", **evidence, expires=iso(expires), within=within)]
    return []


def iso(moment: datetime) -> str:
    """Return a moment as text in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
