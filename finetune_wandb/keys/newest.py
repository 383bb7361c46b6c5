"""Proves a secret's newest version with W&B and decides which version is the key in use.

The one way a version comes into use. A version that W&B has not accepted never does; the last
accepted one stays until a better one is proved. Looking again changes nothing when nothing is
different.
"""

from dataclasses import replace
from datetime import datetime

from finetune_wandb.accounts.desired import choice_cause
from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.keys.look import Look, LookAtUsed, look_at_newest, look_at_used
from finetune_wandb.keys.rules import expiry_findings
from finetune_wandb.model.causes import as_warning, finding
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.finding import Finding
from finetune_wandb.model.key import KeyChange, KeyRecord, KeyReport
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.settings import Settings

_TRIES = 4
"""Writers that may come in between before the look is given up."""


async def prove_newest(
    secret: SecretRef,
    *,
    ports: ReconcilePorts,
    settings: Settings,
    now: datetime,
    trigger: str,
) -> KeyReport:
    """Look at the newest version, take it into use if W&B accepts it, and report.

    `trigger` is what the audit says about why: an event's type, a pass, a resync. Nothing is
    read when the settings do not allow the vault and secret. Raises TemporaryError only when
    the app's own table cannot be read or written.
    """
    if cause := choice_cause(secret, settings):
        return _not_allowed(secret, cause)
    for _ in range(_TRIES):
        before = await ports.keys.read(secret) or KeyRecord(secret=secret)
        look = await look_at_newest(secret, before, ports=ports, settings=settings, now=now)
        used = await look_at_used(secret, before, look, ports=ports)
        after = _next_record(before, look, used, now, trigger)
        try:
            return await _settle(secret, before, after, look, used, ports, now, trigger)
        except ConflictError:
            # Somebody proved at the same time; what is newest is looked at again.
            continue
    raise ConflictError("other writers kept changing the key's record", subject=str(secret))


def _next_record(
    before: KeyRecord, look: Look, used: LookAtUsed, now: datetime, trigger: str
) -> KeyRecord:
    if look.failure is None and look.owner is not None and look.found is not None:
        same = before.version == look.version and before.newest_cause == look.cause
        return replace(
            before,
            version=look.version,
            entity=look.entity,
            entities=look.owner.entities,
            accepted_at=before.accepted_at if same else now,
            trigger=before.trigger if same else trigger,
            expires_at=look.found.expires,
            newest_version=look.version,
            newest_cause=look.cause,
            refused_at=None,
        )
    after = before
    if used.found is not None:
        after = replace(after, expires_at=used.found.expires)
    if used.refused is not None:
        after = replace(after, refused_at=(before.refused_at or now) if used.refused else None)
    if look.temporary and look.version in ("", before.version):
        # It says nothing about any version. A new one that cannot be proved yet is worth saying.
        return after
    return replace(after, newest_version=look.version, newest_cause=look.cause)


async def _settle(
    secret: SecretRef,
    before: KeyRecord,
    after: KeyRecord,
    look: Look,
    used: LookAtUsed,
    ports: ReconcilePorts,
    now: datetime,
    trigger: str,
) -> KeyReport:
    """Write what is different, the audit first: a line too many says more than one too few."""
    for version, cause in _audit(before, after, look):
        accepted = cause == "key_accepted"
        await ports.keys.append_change(
            KeyChange(
                at=now,
                secret=after.secret,
                version=version,
                entity=after.entity if accepted else "",
                accepted=accepted,
                cause=cause,
                trigger=trigger,
            )
        )
    if after != before:
        after = await ports.keys.write(replace(after, checked_at=now))
    secret_findings, key_findings = _findings(secret, after, look, used, now)
    return KeyReport(
        record=after,
        secret_findings=secret_findings,
        key_findings=key_findings,
        newest_version=look.version,
        temporary=look.temporary,
        retry_after_s=look.retry_after,
    )


def _audit(before: KeyRecord, after: KeyRecord, look: Look) -> list[tuple[str, str]]:
    """Return (version, cause) of what is new about the newest version and the one in use."""
    lines: list[tuple[str, str]] = []
    if (before.version, before.newest_version, before.newest_cause) != (
        after.version,
        after.newest_version,
        after.newest_cause,
    ):
        lines.append((look.version, look.cause))
    if before.version == after.version and (before.refused_at is None) != (
        after.refused_at is None
    ):
        lines.append((after.version, "key_rejected" if after.refused_at else "key_accepted"))
    return list(dict.fromkeys(lines))


def _findings(
    secret: SecretRef,
    record: KeyRecord,
    look: Look,
    used: LookAtUsed,
    now: datetime,
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return what is to be said about the secret and about the key."""
    evidence = {"vault": secret.vault.name, "secret": secret.name, "version": record.version}
    about_secret: list[Finding] = []
    about_key: list[Finding] = []
    works = bool(record.version) and record.refused_at is None and not used.unreadable
    if look.failure is not None:
        # Another version does the work, or W&B could not be asked about one that it accepted.
        covered = works and (
            look.temporary or (look.version != record.version and look.cause in _PER_VERSION)
        )
        failure = as_warning(look.failure) if covered else look.failure
        (about_secret if failure.check == "secret" else about_key).append(failure)
    elif look.found is not None:
        about_secret.append(finding("secret_in_date", **evidence))
        about_key.append(finding("key_accepted", **evidence, entity=record.entity))
    if record.refused_at is not None and (look.version, look.cause) != (
        record.version,
        "key_rejected",
    ):
        about_key.append(finding("key_rejected", **evidence))
    if record.version:
        # An end that has come was said above when it is the newest version's.
        ended = record.version != look.version
        about_secret += expiry_findings(record.expires_at, now, evidence, ended=ended)
    return tuple(about_secret), tuple(about_key)


_PER_VERSION = frozenset(
    {
        "secret_disabled",
        "secret_not_yet_valid",
        "secret_expired",
        "key_malformed",
        "key_rejected",
        "key_wrong_entity",
        "key_read_only",
    }
)
"""Causes that say nothing against older versions of the secret."""


def _not_allowed(secret: SecretRef, cause: str) -> KeyReport:
    failure = finding(cause, vault=secret.vault.name, secret=secret.name)
    about_secret = failure.check == "secret"
    return KeyReport(
        record=KeyRecord(secret=secret),
        secret_findings=(failure,) if about_secret else (),
        key_findings=() if about_secret else (failure,),
    )
