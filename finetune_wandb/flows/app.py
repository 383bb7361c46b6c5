"""What flows and handlers are given: the app's ports, connected on first use.

`Deps.app()` raises SettingsProblems while the settings cannot be used, so that every function
refuses with the same text that `health` shows. What is only named here is imported for the type
checker alone: every cold start imports this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finetune_wandb.accounts.ports import ReconcilePorts
    from finetune_wandb.flows.events import RefusedEvents
    from finetune_wandb.keys.ports import RotationPorts
    from finetune_wandb.model.messages import Message
    from finetune_wandb.model.ports import AccountStore, NoticePort
    from finetune_wandb.model.problem import Problem
    from finetune_wandb.model.queues import QueueCount
    from finetune_wandb.model.resync import Resync, ResyncItem
    from finetune_wandb.model.secret import SecretRef
    from finetune_wandb.model.settings import Settings
    from finetune_wandb.model.telemetry import Telemetry
    from finetune_wandb.relay.artifacts.log import ArtifactPort
    from finetune_wandb.relay.options import RelayOptions
    from finetune_wandb.relay.passes.finder import Finder
    from finetune_wandb.relay.ports import RelayPorts


class ProblemPort(Protocol):
    """The table of problems."""

    async def note(self, problem: Problem) -> bool:
        """Count a problem; return whether it is a new one."""
        ...

    async def clear(self, problem: Problem) -> None: ...

    async def list_all(self) -> list[Problem]: ...

    async def purge(self) -> None:
        """Remove what has not come again for longer than it is shown."""
        ...


class ResyncPort(Protocol):
    """The table of re-syncs and their items."""

    async def write(self, resync: Resync) -> None: ...

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None: ...

    async def read_head(self, resync_id: str) -> Resync | None: ...

    async def remove(self, resync_id: str) -> None: ...

    async def read_item(self, resync_id: str, name: str) -> ResyncItem | None: ...

    async def add_item(self, resync_id: str, item: ResyncItem) -> None: ...

    async def write_item(self, resync_id: str, item: ResyncItem) -> None: ...

    async def remove_item(self, resync_id: str, name: str) -> None: ...

    async def running(self, fingerprint: str) -> str:
        """Return the id of the latest re-sync of this request, empty for none."""
        ...

    async def claim(self, fingerprint: str, resync: Resync, *, instead_of: str) -> str:
        """Make a re-sync the latest of its request and remove its predecessor, unless another
        one became the latest meanwhile. Return the id of the latest one."""
        ...

    async def latest(self) -> list[tuple[str, float]]:
        """Return id and time of the latest re-sync of each request, newest first."""
        ...

    async def purge(self, before: float) -> None:
        """Remove the re-syncs that were requested before this time (unix seconds)."""
        ...


class QueuePort(Protocol):
    """The app's queues, and their poison queues."""

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        """Send each message to its queue; the host sees it after `delay_s` seconds."""
        ...

    async def counts(self) -> list[QueueCount]: ...

    async def requeue(self) -> int:
        """Put the messages of all poison queues back on their queues; return how many."""
        ...


@dataclass(slots=True)
class RejectedKeys:
    """One per process: when each key that W&B rejects was last sent for.

    Every message of every tick meets the rejection; one look at the key serves them all.
    """

    pause_s: float = 1.0
    _sent_at: dict[SecretRef, float] = field(default_factory=dict)

    def is_due(self, secret: SecretRef, now: float) -> bool:
        """Return whether to send for a look now, and count it as sent. `now` in unix seconds."""
        if now - self._sent_at.get(secret, float("-inf")) < self.pause_s:
            return False
        self._sent_at[secret] = now
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
    artifacts: ArtifactPort
    problems: ProblemPort
    resyncs: ResyncPort
    notices: NoticePort
    queues: QueuePort
    refused_events: RefusedEvents
    rejected_keys: RejectedKeys = field(default_factory=RejectedKeys)

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
