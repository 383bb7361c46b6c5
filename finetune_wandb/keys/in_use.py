"""Decides which version of a secret is the key in use, from what `proof.py` finds.

The only way to put a version into use. W&B must accept a version first; the last accepted one
stays in use until a better one is proved. Looking again is a no-op when nothing differs.
"""

from dataclasses import replace
from datetime import datetime

from finetune_wandb.keys.proof import (
    KeyPorts,
    Look,
    LookAtUsed,
    expiry_findings,
    look_at_newest,
    look_at_used,
)
from finetune_wandb.model.accounts.key import KeyRecord, KeyReport
from finetune_wandb.model.accounts.report import Finding
from finetune_wandb.model.audit import key_entry
from finetune_wandb.model.causes import as_warning, causes, finding
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings

_TRIES = 4
"""Attempts to write the record before the look gives way to other writers."""


async def prove_newest(
    secret: SecretRef,
    *,
    ports: KeyPorts,
    settings: Settings,
    now: datetime,
    trigger: str,
) -> KeyReport:
    """Look at the newest version, put it into use if W&B accepts it, and report.

    `trigger` is the audit's reason: an event's type, a pass, a re-sync. If the settings do not
    allow the secret, nothing is read. Raises TemporaryError only when the app's own table cannot be
    read or written.
    """
    if cause := settings.why_not(secret):
        refusal = finding(cause, vault=secret.vault.name, secret=secret.name)
        return _report(KeyRecord(secret=secret), [refusal], Look())
    for _ in range(_TRIES):
        before = await ports.keys.read(secret) or KeyRecord(secret=secret)
        look = await look_at_newest(secret, before, ports=ports, settings=settings, now=now)
        used = await look_at_used(secret, before, look, ports=ports)
        after = _next_record(before, look, used, now, trigger)
        try:
            # The audit first: a crash in between may repeat a line, never lose one.
            for version, cause in _audit(before, after, look):
                entity = after.entity if cause == "key_accepted" else ""
                await ports.audit.write(
                    key_entry(secret, version, cause, entity, trigger=trigger, at=now)
                )
            if after != before:
                after = await ports.keys.write(replace(after, checked_at=now))
        except ConflictError:
            # Another process wrote first: look again.
            continue
        found = look.found if look.version == after.version else used.found
        value = found.value if found else None
        findings = _findings(after, look, used, now)
        if settings.rotation == "mint" and settings.apply_mode == "observe":
            findings.append(finding("key_rotation_observed"))
        return _report(after, findings, look, value)
    raise ConflictError("other writers kept changing the key's record", subject=str(secret))


def _report(
    record: KeyRecord, findings: list[Finding], look: Look, value: Secret | None = None
) -> KeyReport:
    return KeyReport(
        record=record,
        findings=tuple(sorted(findings, key=lambda item: item.check != "secret")),
        newest_version=look.version,
        temporary=look.temporary,
        retry_after_s=look.retry_after,
        value=value,
    )


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
            disabled=False,
        )
    after = before
    if used.found is not None:
        after = replace(after, expires_at=used.found.expires, disabled=False)
    if used.disabled:
        after = replace(after, disabled=True)
    if used.refused is not None:
        after = replace(after, refused_at=(before.refused_at or now) if used.refused else None)
    if look.temporary and look.version in ("", before.version):
        # The failure says nothing about a version; only a new, unproved version is recorded.
        return after
    return replace(after, newest_version=look.version, newest_cause=look.cause)


def _audit(before: KeyRecord, after: KeyRecord, look: Look) -> list[tuple[str, str]]:
    """Return (version, cause) of each change to the newest version and the one in use."""
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


def _findings(record: KeyRecord, look: Look, used: LookAtUsed, now: datetime) -> list[Finding]:
    """Return the findings about the secret and about the key."""
    secret = record.secret
    evidence = {"vault": secret.vault.name, "secret": secret.name, "version": record.version}
    found: list[Finding] = []
    works = bool(record.version) and record.refused_at is None and not used.unreadable
    if look.failure is not None:
        # Another version works, or W&B did not answer about one that it accepted before.
        covered = works and (
            look.temporary or (look.version != record.version and causes()[look.cause].older_in_use)
        )
        found.append(as_warning(look.failure) if covered else look.failure)
    elif look.found is not None:
        found.append(finding("secret_in_date", **evidence))
        found.append(finding("key_accepted", **evidence, entity=record.entity))
    if record.refused_at is not None and (look.version, look.cause) != (
        record.version,
        "key_rejected",
    ):
        found.append(finding("key_rejected", **evidence))
    if record.version:
        # The newest version's own expiry was reported above.
        ended = record.version != look.version
        found += expiry_findings(record.expires_at, now, evidence, ended=ended)
    return found
