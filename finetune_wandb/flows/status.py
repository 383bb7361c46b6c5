"""What the app knows of its work: read for the status answer, and reported with each drift pass."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.accounts.key import KeyMint, KeyRecord
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import AuditEntry, AuditQuery
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.telemetry import pairs
from finetune_wandb.model.work import Problem, QueueCount, Work

log = logging.getLogger(__name__)

_MOST_CHANGES: Final = 20
"""Changes of a key in an answer; the audit holds all of AUDIT_DAYS."""
_LONGEST_MESSAGE: Final = 2000
"""Bytes that are shown of a message that was set aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that the app knows of its work, unfiltered: accounts by name, newest job first."""

    accounts: list[AccountReport]
    cursors: list[Cursor]
    keys: list[KeyRecord]
    key_changes: dict[SecretRef, tuple[AuditEntry, ...]] = field(default_factory=dict)
    """The latest changes of each key, by secret."""
    mints: dict[SecretRef, KeyMint] = field(default_factory=dict)
    problems: list[Problem]
    queues: list[QueueCount]

    def totals(self) -> dict[str, Any]:
        """Return the counts that do not depend on filters."""
        return {
            "accounts": len(self.accounts),
            "unhealthy": sum(map(needs_action, self.accounts)),
            "jobs": len(self.cursors),
            "jobs_by_state": dict(
                sorted(Counter(str(one.relay_state) for one in self.cursors).items())
            ),
            "jobs_with_error": sum(map(is_bad, self.cursors)),
            "poison": sum(count.poison for count in self.queues),
        }


def needs_action(entry: AccountReport) -> bool:
    """Return whether an account does not work, or a blocked check keeps it out of scope."""
    blocked = any(finding.severity == "blocked" for finding in entry.findings)
    return blocked or (entry.in_scope and not entry.healthy)


def is_bad(cursor: Cursor) -> bool:
    """Return whether a job needs attention: it is parked, or its last pass failed."""
    return cursor.relay_state == "parked" or bool(cursor.error)


async def read_situation(app: App) -> Situation:
    """Read the tables and count the queues."""
    # The jobs first: they come in many pages, one after the other.
    cursors, accounts, keys, mints, aside, queues = await asyncio.gather(
        app.relay.cursors.list_cursors(),
        app.accounts.list_all(),
        app.reconcile.keys.list_all(),
        app.rotation.mints.list_all(),
        app.work.list_aside(),
        app.queues.counts(),
    )
    kept = Counter(work.queue for work in aside)
    changes = await asyncio.gather(
        *(
            app.audit.list(
                AuditQuery(action="key_changed", subject=str(one.secret), limit=_MOST_CHANGES)
            )
            for one in keys
        )
    )
    # Last: rows of the other tables that could not be read are problems, too.
    problems = await app.problems.list_all()
    return Situation(
        accounts=sorted((one for one in accounts if not one.deleted), key=lambda one: one.key),
        cursors=sorted(cursors, key=lambda one: (-(one.created_at or 0.0), one.job)),
        keys=sorted(keys, key=lambda one: one.secret.key),
        key_changes={one.secret: page.entries for one, page in zip(keys, changes, strict=True)},
        mints={one.secret: one for one in mints},
        problems=[*map(_shown, aside), *problems],
        # Until the poison queue is looked at, a message is both in it and in the table.
        queues=[replace(one, poison=max(one.poison, kept[one.name])) for one in queues],
    )


def _shown(work: Work) -> Problem:
    """Return why a message was set aside, with the message."""
    problem = work.problem or Problem(source=work.queue, subject=work.queue, cause="set aside")
    return replace(problem, message=work.body[:_LONGEST_MESSAGE].decode(errors="replace"))


async def report_levels(app: App) -> None:
    """Log and measure how many jobs and accounts are in which state; empty states count 0."""
    situation = await read_situation(app)
    states = Counter(cursor.relay_state for cursor in situation.cursors)
    for state in RelayState:
        app.telemetry.level("jobs", states[state], state=state)
    totals = situation.totals()
    app.telemetry.level("accounts", totals["accounts"] - totals["unhealthy"], healthy=True)
    app.telemetry.level("accounts", totals["unhealthy"], healthy=False)
    for count in situation.queues:
        app.telemetry.level("queue.poison", count.poison, queue=count.name)
    shown = ("accounts", "unhealthy", "jobs", "jobs_with_error", "poison")
    needs_attention = any(totals[name] for name in ("unhealthy", "jobs_with_error", "poison"))
    level = logging.WARNING if needs_attention else logging.INFO
    log.log(level, "levels: %s", pairs(**{name: totals[name] for name in shown}))
