"""What flows and handlers are given: the app's ports, connected on first use.

`Deps.app()` raises SettingsProblems while the settings cannot be used, so that every function
refuses with the same text that `health` shows. What is only named here, the tables and queues
among it, is imported for the type checker alone: every cold start imports this file, and flows are
given their clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finetune_wandb.accounts.ports import ReconcilePorts
    from finetune_wandb.clients.storage.queues import Queues
    from finetune_wandb.clients.storage.work_tables import ProblemTable, ResyncTable, WorkTable
    from finetune_wandb.flows.events import RefusedEvents
    from finetune_wandb.keys.new_key import RotationPorts
    from finetune_wandb.model.accounts.ports import AccountStore, NoticePort
    from finetune_wandb.model.audit import AuditPort
    from finetune_wandb.model.settings import Settings
    from finetune_wandb.model.telemetry import Telemetry
    from finetune_wandb.relay.artifacts import ArtifactLog
    from finetune_wandb.relay.passes.finder import Finder
    from finetune_wandb.relay.ports import RelayOptions, RelayPorts


@dataclass(slots=True)
class Pause:
    """One per process: when each thing was done last, so that it is done only now and then."""

    seconds: float
    _done_at: dict[object, float] = field(default_factory=dict)

    def is_due(self, subject: object, now: float) -> bool:
        """Return whether to do it now, and count it as done. `now` in unix seconds."""
        if now - self._done_at.get(subject, float("-inf")) < self.seconds:
            return False
        self._done_at[subject] = now
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that flows and handlers act through. One per process."""

    settings: Settings
    clock: Callable[[], float]
    """Unix seconds."""
    telemetry: Telemetry
    own_principal: Callable[[], Awaitable[str]]
    """Object id of the app's own identity, in lower case."""
    signed_in: bool
    """Whether App Service Authentication is on, so that its headers can be trusted."""
    accounts: AccountStore
    reconcile: ReconcilePorts
    rotation: RotationPorts
    relay: RelayPorts
    options: RelayOptions
    finder: Finder
    artifacts: ArtifactLog
    audit: AuditPort
    problems: ProblemTable
    resyncs: ResyncTable
    notices: NoticePort
    queues: Queues
    work: WorkTable
    refused_events: RefusedEvents
    rejected_keys: Pause = field(default_factory=lambda: Pause(1.0))
    """Every message of every tick meets a rejected key; one look at it serves them all."""
    poison_looks: Pause = field(default_factory=lambda: Pause(600.0))
    """Azure keeps what is in a poison queue for seven days only."""

    def now(self) -> datetime:
        """Return the time as a UTC datetime."""
        return datetime.fromtimestamp(self.clock(), UTC)


class Deps(Protocol):
    """Given to the triggers; connects nothing by itself."""

    def settings(self) -> Settings:
        """Return the settings. Raises SettingsProblems."""
        ...

    async def app(self) -> App:
        """Return the connected app. Raises SettingsProblems."""
        ...
