"""Looks at versions of a secret and asks W&B about them. Says what was found, decides nothing.

Two looks: at the newest version, which may come into use, and, where that one was not accepted,
at the version in use, which may have stopped being accepted.
"""

from dataclasses import dataclass
from datetime import datetime

from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.keys.rules import entity_for, refusal_before_proof
from finetune_wandb.model.causes import finding
from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    RejectedError,
    TemporaryError,
)
from finetune_wandb.model.finding import Finding
from finetune_wandb.model.key import KeyOwner, KeyRecord
from finetune_wandb.model.secret import Secret, SecretRef
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.vault import SecretVersion

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
    """What is known of the version in use after a look."""

    refused: bool | None = None
    """Whether W&B refuses it; None: it was not asked, or gave no answer."""
    found: SecretVersion | None = None
    unreadable: bool = False
    """Whether the vault gives its value to nobody: disabled, or gone. A process that does not
    hold it already cannot use it."""


async def look_at_newest(
    secret: SecretRef,
    before: KeyRecord,
    *,
    ports: ReconcilePorts,
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
    ports: ReconcilePorts,
    settings: Settings,
) -> Look:
    """Ask W&B about a version whose dates and shape are good: accepted, whose, may it write."""
    try:
        owner = await ports.prover.prove(found.value)
        entity, wanted = entity_for(owner, before, settings)
        if not entity:
            failure = finding(
                "key_wrong_entity", **evidence, wanted=wanted, belongs_to=", ".join(owner.entities)
            )
            return Look(found.version, found, owner, failure=failure)
        # What is in use shows by its runs whether it may write: asked once, before it is.
        if found.version != before.version and await _is_read_only(
            found.value, entity, ports, settings
        ):
            failure = finding(
                "key_read_only", **evidence, entity=entity, project=settings.wandb_project
            )
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
    secret: SecretRef, before: KeyRecord, newest: Look, *, ports: ReconcilePorts
) -> LookAtUsed:
    """Ask W&B about the version in use where the newest one does not replace it.

    Raises nothing: what cannot be read or asked says nothing against a version.
    """
    if not before.version or newest.failure is None:
        return LookAtUsed()
    if newest.version == before.version:
        if newest.owner is not None or newest.cause == "key_rejected":
            return LookAtUsed(newest.cause == "key_rejected", newest.found)
        if newest.temporary or newest.found is None:
            return LookAtUsed()
        # Expired in the vault: it goes on being used for as long as W&B accepts it.
        return LookAtUsed(await _is_refused(newest.found.value, ports), newest.found)
    if newest.temporary:
        return LookAtUsed()
    try:
        found = await ports.secrets.read_version(secret, before.version)
    except (DeniedError, MissingError):
        return LookAtUsed(unreadable=True)
    except AppError:
        return LookAtUsed()
    return LookAtUsed(await _is_refused(found.value, ports), found)


async def _is_refused(key: Secret, ports: ReconcilePorts) -> bool | None:
    try:
        await ports.prover.prove(key)
    except RejectedError:
        return True
    except AppError:
        return None
    return False


async def _is_read_only(
    key: Secret, entity: str, ports: ReconcilePorts, settings: Settings
) -> bool:
    return await ports.prover.may_write(key, entity, settings.wandb_project) is False


def _cause_of_unread(error: AppError) -> str:
    if isinstance(error, TemporaryError):
        return "secret_unavailable"
    if isinstance(error, MissingError):
        return "secret_missing"
    return _DENIALS.get(error.code, "secret_forbidden")
