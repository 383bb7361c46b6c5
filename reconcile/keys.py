"""Proves a secret's newest version with W&B and decides which version is the key in use.

The one way a version comes into use. A version that W&B has not accepted never does; the last
accepted one stays until a better one is proved. Looking again changes nothing when nothing is
different.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from model.errors import AppError, ConflictError, MissingError, TemporaryError
from model.finding import Finding
from model.ids import VaultAddress
from model.key import KeyChange, KeyOwner, KeyRecord, KeyReport
from model.settings import Settings
from model.vault import SecretVersion
from reconcile.causes import as_warning, finding
from reconcile.desired import choice_cause
from reconcile.key_rules import entity_for, expiry_findings, refusal_before_proof
from reconcile.ports import ReconcilePorts

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

_TRIES = 4
"""Writers that may come in between before the look is given up."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at the newest version found. `cause` is empty when it was accepted."""

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


async def prove_newest(
    vault: VaultAddress,
    secret: str,
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
    if cause := choice_cause(vault, secret, settings):
        return _not_allowed(vault, secret, cause)
    for _ in range(_TRIES):
        before = await ports.keys.read(vault.host, secret) or KeyRecord(
            vault_host=vault.host, secret=secret.lower()
        )
        look = await _look(vault, secret, before, ports, settings, now)
        after = _next_record(before, look, now, trigger)
        try:
            return await _settle(vault, secret, before, after, look, ports, now, trigger)
        except ConflictError:
            # Somebody proved at the same time; what is newest is looked at again.
            continue
    raise ConflictError("other writers kept changing the key's record", subject=vault.host)


async def _look(
    vault: VaultAddress,
    secret: str,
    before: KeyRecord,
    ports: ReconcilePorts,
    settings: Settings,
    now: datetime,
) -> _Look:
    evidence = {"vault": vault.name, "secret": secret}
    try:
        found = await ports.secrets.read_newest(vault, secret)
    except AppError as error:
        cause = _cause_of_unread(error)
        return _Look(
            failure=finding(cause, **evidence, code=error.code),
            temporary=isinstance(error, TemporaryError),
            retry_after=error.retry_after if isinstance(error, TemporaryError) else None,
        )
    evidence["version"] = found.version
    if failure := refusal_before_proof(found, now, evidence):
        return _Look(found.version, found, failure=failure)
    try:
        owner = await ports.prover.prove(found.value)
    except TemporaryError as error:
        failure = finding("key_unknown", **evidence, wandb=settings.wandb_base_url, code=error.code)
        return _Look(
            found.version, found, failure=failure, temporary=True, retry_after=error.retry_after
        )
    except AppError as error:
        failure = finding("key_rejected", **evidence, code=error.code)
        return _Look(found.version, found, failure=failure)
    entity, wanted = entity_for(owner, before, settings)
    if not entity:
        failure = finding(
            "key_wrong_entity", **evidence, wanted=wanted, belongs_to=", ".join(owner.entities)
        )
        return _Look(found.version, found, owner, failure=failure)
    return _Look(found.version, found, owner, entity)


def _cause_of_unread(error: AppError) -> str:
    if isinstance(error, TemporaryError):
        return "secret_unavailable"
    if isinstance(error, MissingError):
        return "secret_missing"
    return _DENIALS.get(error.code, "secret_forbidden")


def _next_record(before: KeyRecord, look: _Look, now: datetime, trigger: str) -> KeyRecord:
    if look.temporary:
        return before
    if look.failure is not None or look.owner is None or look.found is None:
        return replace(before, newest_version=look.version, newest_cause=look.cause)
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
    )


async def _settle(
    vault: VaultAddress,
    secret: str,
    before: KeyRecord,
    after: KeyRecord,
    look: _Look,
    ports: ReconcilePorts,
    now: datetime,
    trigger: str,
) -> KeyReport:
    """Write what is different, the audit first: a line too many says more than one too few."""
    noted = (before.version, before.newest_version, before.newest_cause) != (
        after.version,
        after.newest_version,
        after.newest_cause,
    )
    if noted:
        await ports.keys.append_change(
            KeyChange(
                at=now,
                vault_host=after.vault_host,
                secret=after.secret,
                version=look.version,
                entity=look.entity,
                accepted=look.failure is None,
                cause=look.cause,
                trigger=trigger,
            )
        )
    if after != before:
        after = await ports.keys.write(replace(after, checked_at=now))
    secret_findings, key_findings = _findings(vault, secret, after, look, now)
    return KeyReport(
        vault_host=vault.host,
        secret=secret,
        record=after,
        secret_findings=secret_findings,
        key_findings=key_findings,
        newest_version=look.version,
        accepted=look.failure is None,
        changed=after.version != before.version,
        noted=noted,
        temporary=look.temporary,
        retry_after_s=look.retry_after,
    )


def _findings(
    vault: VaultAddress, secret: str, record: KeyRecord, look: _Look, now: datetime
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Return what is to be said about the secret and about the key."""
    evidence = {"vault": vault.name, "secret": secret, "version": record.version}
    about_secret: list[Finding] = []
    about_key: list[Finding] = []
    if look.failure is not None:
        # Another version does the work, or W&B could not be asked about one that it accepted.
        covered = record.version and (
            look.temporary or (look.version != record.version and look.cause in _PER_VERSION)
        )
        failure = as_warning(look.failure) if covered else look.failure
        (about_secret if failure.check == "secret" else about_key).append(failure)
    elif look.found is not None:
        about_secret.append(finding("secret_in_date", **evidence))
        about_key.append(finding("key_accepted", **evidence, entity=record.entity))
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
    }
)
"""Causes that say nothing against older versions of the secret."""


def _not_allowed(vault: VaultAddress, secret: str, cause: str) -> KeyReport:
    failure = finding(cause, vault=vault.name, secret=secret)
    about_secret = failure.check == "secret"
    return KeyReport(
        vault_host=vault.host,
        secret=secret,
        record=KeyRecord(vault_host=vault.host, secret=secret.lower()),
        secret_findings=(failure,) if about_secret else (),
        key_findings=() if about_secret else (failure,),
    )
