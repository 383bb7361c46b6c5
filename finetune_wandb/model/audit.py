"""The audit: an append-only record of what the app changed, was asked to do, or saw change.

An entry is written before its change begins and completed with the outcome. One that still says
`begun` belongs to a process that died: the change may or may not have happened.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, Protocol

from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.secret import SecretRef

PAGE_MARK: Final = re.compile(r"\d{17}-[0-9a-f]{12}")
"""What `next` of a page looks like."""
Outcome = Literal["begun", "done", "failed", "deferred", "seen"]
"""`seen`: a change that the app found and did not make. `deferred`: the service was not ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change. Holds ids, names and codes only, never a value of a secret."""

    at: datetime
    """When it began, UTC."""
    action: str
    """The step of a plan (`grant_role`), or `account_changed`, `key_changed`, `mint_key`,
    `store_key`, `delete_key`, `cancel_job`, `resync`."""
    subject: str
    """ARM id of the account, or vault host and name of the secret; `all` for a re-sync of all."""
    outcome: Outcome
    cause: str = ""
    """Cause code of the finding that it clears, or of what was found."""
    trigger: str = ""
    """What started the work: an event's type, `drift`, `resync`, `minted`, …; see docs/api.md."""
    by: str = ""
    """On whose request: the caller's name, or the object id that an event names."""
    code: str = ""
    """The service's error code if the outcome is `failed` or `deferred`."""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What started a pass, and on whose request; see AuditEntry."""

    trigger: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries to list, newest first. An empty field matches all."""

    action: str = ""
    subject: str = ""
    """The whole subject, in any letter case."""
    since: datetime | None = None
    until: datetime | None = None
    after: str = ""
    """`next` of the previous page."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AuditPage:
    """`next` is the `after` of the following page; empty on the last one."""

    entries: tuple[AuditEntry, ...]
    next: str = ""


class AuditPort(Protocol):
    """The table of the audit."""

    async def write(self, entry: AuditEntry) -> None:
        """Add an entry, or add the outcome to one that this process began."""
        ...

    async def list(self, query: AuditQuery) -> AuditPage:
        """Return a page of entries, newest first."""
        ...

    async def purge(self, before: datetime) -> int:
        """Remove the entries that began before a time; return how many."""
        ...


def key_entry(
    secret: SecretRef, version: str, cause: str, entity: str = "", *, trigger: str, at: datetime
) -> AuditEntry:
    """Return the entry of a change of a secret: its newest, used or refused version."""
    return AuditEntry(
        at=at,
        action="key_changed",
        subject=str(secret),
        outcome="seen",
        cause=cause,
        trigger=trigger,
        detail={"version": version, "entity": entity},
    )


@contextlib.asynccontextmanager
async def recorded(audit: AuditPort, entry: AuditEntry) -> AsyncIterator[None]:
    """Record a change before the block makes it, and with its outcome after it.

    A change that cannot be recorded is not made. Raises what the table and the block raise.
    """
    await audit.write(entry)
    try:
        yield
    except AppError as error:
        outcome: Outcome = "deferred" if isinstance(error, TemporaryError) else "failed"
        await _complete(audit, replace(entry, outcome=outcome, code=error.code))
        raise
    await _complete(audit, replace(entry, outcome="done"))


async def _complete(audit: AuditPort, entry: AuditEntry) -> None:
    # The change is made; if this write fails, the entry stays `begun`.
    with contextlib.suppress(AppError):
        await audit.write(entry)
