"""Events: which accounts a change of rights concerns, and what becomes of those of no use.

An event that cannot be used is acknowledged, and counted in the status once for each cause.
Each event is an invocation of its own, and a sender may send any number of them: what comes
while a write is under way is counted by the next write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from finetune_wandb.accounts.checks.vault import access_differs
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.work import Problem

if TYPE_CHECKING:
    from finetune_wandb.clients.storage.work_tables import ProblemTable
    from finetune_wandb.flows.app import App
    from finetune_wandb.model.accounts.report import AccountReport
    from finetune_wandb.model.accounts.vault import RoleAssignment
    from finetune_wandb.model.ids import AccountId, VaultAddress

log = logging.getLogger(__name__)

MOST_NAMED: Final = 20
"""How many causes a function keeps apart; all others are counted as one."""
_NAMED_FOR_S: Final = 3600.0
_PAUSE_S: Final = 0.25
OTHERS: Final = "others"


class RefusedEvents:
    """One per process. Writes each cause once a round, however often it came."""

    def __init__(
        self,
        problems: ProblemTable,
        clock: Callable[[], float],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` gives unix seconds."""
        self._problems = problems
        self._clock = clock
        self._wait = wait
        self._open: tuple[Counter[Problem], asyncio.Task[None]] | None = None
        """The round that still takes events; its task ends, or fails, for all of them."""
        self._writing = asyncio.Lock()
        self._ended_at = float("-inf")
        self._named: dict[str, set[Problem]] = {}
        self._named_since = float("-inf")

    async def note(self, problem: Problem) -> None:
        """Count a refused event; it is stored when this returns. Raises our errors, uncounted."""
        if self._open is None:
            fresh: Counter[Problem] = Counter()
            self._open = fresh, asyncio.create_task(self._write(fresh))
        counts, written = self._open
        counts[self._filed(problem)] += 1
        # A caller that is cancelled must not cancel the round of the others.
        await asyncio.shield(written)

    async def _write(self, counts: Counter[Problem]) -> None:
        async with self._writing:
            if (left := self._ended_at + _PAUSE_S - self._clock()) > 0:
                await self._wait(min(left, _PAUSE_S))  # a clock may be set back
            self._open = None
            try:
                for problem, count in counts.items():
                    if await self._problems.note(replace(problem, count=count)):
                        log.warning(
                            "%s refused %s: %s", problem.source, problem.subject, problem.cause
                        )
            finally:
                self._ended_at = self._clock()

    def _filed(self, problem: Problem) -> Problem:
        now = self._clock()
        if now - self._named_since > _NAMED_FOR_S:
            self._named, self._named_since = {}, now
        named = self._named.setdefault(problem.source, set())
        if problem not in named and len(named) >= MOST_NAMED:
            return replace(problem, subject=OTHERS)
        named.add(problem)
        return problem


async def accounts_concerned(host: str | None, app: App) -> list[AccountId]:
    """Return the accounts of this vault (None: of all) whose access differs from what is stored.

    The event does not name the identity. Sending every account of the vault would cost a read per
    account and event, and while many accounts are onboarded the app's own writes raise as many
    events. So the rights are read once per event and compared with what is stored.

    Of a vault whose rights cannot be read, all are returned: their own pass reports why. Raises
    TemporaryError when the table of accounts cannot be read.
    """
    by_vault: dict[VaultAddress, list[AccountReport]] = {}
    for entry in await app.accounts.list_all():
        if entry.in_scope and not entry.deleted and entry.secret:
            by_vault.setdefault(entry.secret.vault, []).append(entry)
    found: list[AccountReport] = []
    for address, entries in by_vault.items():
        if host in (None, address.host):
            try:
                found.extend(await _differing(address, entries, app))
            except AppError:
                found += entries
    return [entry.id for entry in found]


async def _differing(
    address: VaultAddress, entries: list[AccountReport], app: App
) -> list[AccountReport]:
    on_secret = app.settings.vault_role_scope == "secret"
    vault = await app.reconcile.vaults.find(address)
    by_scope: dict[str, tuple[RoleAssignment, ...]] = {}
    found: list[AccountReport] = []
    for entry in entries:
        scope = vault.scope(entry.secret.name if on_secret and entry.secret else "")
        if vault.rbac and scope not in by_scope:
            by_scope[scope] = await app.reconcile.roles.list_for_scope(scope)
        if access_differs(entry, vault, by_scope.get(scope), app.settings, app.now()):
            found.append(entry)
    return found
