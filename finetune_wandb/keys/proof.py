"""Proof of a key: reads versions of a secret and asks W&B about them.

Reports what it finds; `in_use.py` decides which version is in use. Two looks: at the newest
version, which may be put into use, and, if W&B did not accept that one, at the version in use,
which W&B may no longer accept.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from finetune_wandb.model.accounts.key import KeyOwner, KeyRecord, WriteRight
from finetune_wandb.model.accounts.ports import KeyStore, ProverPort, SecretPort
from finetune_wandb.model.accounts.report import Finding
from finetune_wandb.model.accounts.vault import SecretVersion
from finetune_wandb.model.audit import AuditPort
from finetune_wandb.model.causes import finding
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings

_SHAPE = re.compile(r"[A-Za-z0-9_.-]{40,512}")
"""Old keys have 40 characters (more with a prefix on self-hosted servers), new ones about 86. No
upper limit is documented, so this one is generous."""

WARN_DAYS = (1, 7, 30)
"""How near an expiry date is reported, nearest first, in days."""

_DENIALS = {
    "ForbiddenByRbac": "secret_forbidden_by_rbac",
    "AccessDenied": "secret_access_denied",
    "ForbiddenByFirewall": "secret_forbidden_by_firewall",
    "ForbiddenByConnection": "secret_forbidden_by_connection",
    "SecretDisabled": "secret_disabled",
}
"""Key Vault's inner error codes of a 403.

Source: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes (checked 2026-11-24).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPorts:
    """What a look at a key reads and writes through."""

    secrets: SecretPort
    prover: ProverPort
    keys: KeyStore
    audit: AuditPort


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the newest version found. `failure` is None when it was accepted."""

    version: str = ""
    found: SecretVersion | None = None
    owner: KeyOwner | None = None
    entity: str = ""
    failure: Finding | None = None
    temporary: bool = False
    retry_after: float | None = None

    @property
    def cause(self) -> str:
        return self.failure.cause if self.failure else "key_accepted"


@dataclass(frozen=True, slots=True)
class LookAtUsed:
    """What a look at the version in use found."""

    refused: bool | None = None
    """Whether W&B refuses it; None: W&B was not asked, or did not answer."""
    found: SecretVersion | None = None
    unreadable: bool = False
    """Whether the vault no longer returns its value: disabled, or gone. A process that does not
    hold the value already cannot use it."""
    disabled: bool = False
    """Whether a person has disabled it: a process that holds the value must not use it either."""


async def look_at_newest(
    secret: SecretRef,
    before: KeyRecord,
    *,
    ports: KeyPorts,
    settings: Settings,
    now: datetime,
) -> Look:
    """Read the newest version and prove it; `before` says what is in use. Raises nothing."""
    evidence = {"vault": secret.vault.name, "secret": secret.name}
    try:
        found = await ports.secrets.read_newest(secret)
    except AppError as error:
        return Look(
            failure=finding(_cause_of_unread(error), **evidence, code=error.code),
            temporary=isinstance(error, TemporaryError),
            retry_after=error.retry_after if isinstance(error, TemporaryError) else None,
        )
    evidence["version"] = found.version
    if failure := refusal_before_proof(found, now, evidence):
        return Look(found.version, found, failure=failure)
    return await prove_version(found, before, evidence, ports=ports, settings=settings)


async def prove_version(
    found: SecretVersion,
    before: KeyRecord,
    evidence: dict[str, str],
    *,
    ports: KeyPorts,
    settings: Settings,
) -> Look:
    """Ask W&B about a version with valid dates and shape: accepted, whose, may it write."""
    try:
        owner = await ports.prover.prove(found.value)
        entity, wanted = entity_for(owner, before, settings)
        # Asked before a version is put into use; later each account's own place is asked about.
        project = settings.wandb_project
        right: WriteRight = "write" if entity else "refused"
        if wanted and (not entity or found.version != before.version):
            right = await ports.prover.write_right(found.value, wanted, project)
        if not entity and right != "write":
            failure = finding(
                "key_wrong_entity", **evidence, wanted=wanted, belongs_to=", ".join(owner.entities)
            )
            return Look(found.version, found, owner, failure=failure)
        # W&B does not list every team that a service account of an organization may write to.
        entity = wanted
        if right in ("read_only", "refused"):
            failure = finding(f"key_{right}", **evidence, entity=entity, project=project)
            return Look(found.version, found, owner, failure=failure)
    except TemporaryError as error:
        failure = finding("key_unknown", **evidence, wandb=settings.wandb_base_url, code=error.code)
        return Look(
            found.version, found, failure=failure, temporary=True, retry_after=error.retry_after
        )
    except AppError as error:
        failure = finding("key_rejected", **evidence, code=error.code)
        return Look(found.version, found, failure=failure)
    return Look(found.version, found, owner, entity)


async def look_at_used(
    secret: SecretRef, before: KeyRecord, newest: Look, *, ports: KeyPorts
) -> LookAtUsed:
    """Ask W&B about the version in use if the newest one does not replace it.

    Raises nothing: a failed read or request proves nothing against a version.
    """
    if not before.version or newest.failure is None:
        return LookAtUsed()
    if newest.version == before.version:
        if newest.owner is not None or newest.cause == "key_rejected":
            return LookAtUsed(newest.cause == "key_rejected", newest.found)
        if newest.temporary or newest.found is None:
            return LookAtUsed()
        if newest.cause == "secret_disabled":
            return LookAtUsed(unreadable=True, disabled=True)
        # Expired in the vault: it stays in use while W&B accepts it.
        return LookAtUsed(await is_refused(newest.found.value, ports), newest.found)
    if newest.temporary:
        return LookAtUsed()
    try:
        found = await ports.secrets.read_version(secret, before.version)
    except (DeniedError, MissingError) as error:
        return LookAtUsed(unreadable=True, disabled=error.code == "SecretDisabled")
    except AppError:
        return LookAtUsed()
    return LookAtUsed(await is_refused(found.value, ports), found)


async def is_refused(key: Secret, ports: KeyPorts) -> bool | None:
    """Return whether W&B refuses a key; None when W&B does not answer."""
    try:
        await ports.prover.prove(key)
    except RejectedError:
        return True
    except AppError:
        return None
    return False


def _cause_of_unread(error: AppError) -> str:
    if isinstance(error, TemporaryError):
        return "secret_unavailable"
    if isinstance(error, MissingError):
        return "secret_missing"
    return _DENIALS.get(error.code, "secret_forbidden")


def refusal_before_proof(
    found: SecretVersion, now: datetime, evidence: Mapping[str, str]
) -> Finding | None:
    """Return why W&B is not asked about a version, None if it is asked."""
    if not found.enabled:
        return finding("secret_disabled", **evidence)
    if found.not_before and found.not_before > now:
        return finding("secret_not_yet_valid", **evidence, not_before=_iso(found.not_before))
    if found.expires and found.expires <= now:
        return finding("secret_expired", **evidence, expires=_iso(found.expires))
    if not _SHAPE.fullmatch(found.value.reveal()):
        return finding("key_malformed", **evidence)
    return None


def entity_for(owner: KeyOwner, before: KeyRecord, settings: Settings) -> tuple[str, str]:
    """Return (entity that owns the runs written with this key, entity that was wanted).

    The first is empty when the key does not belong to the wanted one. Wanted is the entity of
    the settings, else that of the key in use, else the key's own.
    """
    own = owner.entity or next(iter(owner.entities), "")
    named = owner.spelled(settings.wandb_entity) or settings.wandb_entity
    wanted = named or before.entity or own
    return (wanted, wanted) if wanted and owner.may_write(wanted) else ("", wanted)


def nearness(expires: datetime | None, now: datetime) -> str:
    """Return how near an expiry date is: `30 days`, `7 days`, `1 days`, `over`, `no date`, or
    empty."""
    if expires is None:
        return "no date"
    if expires <= now:
        return "over"
    left = (expires - now).total_seconds() / 86400
    return next((f"{days} days" for days in WARN_DAYS if left <= days), "")


def expiry_findings(
    expires: datetime | None, now: datetime, evidence: Mapping[str, str], *, ended: bool
) -> list[Finding]:
    """Return the findings about the expiry date of the version in use.

    `ended`: whether a date that has passed is reported too.
    """
    if expires is None:
        return [finding("secret_no_expiry", **evidence)]
    within = nearness(expires, now)
    if within == "over":
        return [finding("secret_expired", **evidence, expires=_iso(expires))] if ended else []
    if within:
        return [finding("secret_expires_soon", **evidence, expires=_iso(expires), within=within)]
    return []


def _iso(moment: datetime) -> str:
    """Return a moment as text in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
