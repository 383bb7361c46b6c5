"""What flows and handlers are given: the app's ports, connected on first use.

`Deps.app()` raises SettingsProblems while the settings cannot be used, so that every function
refuses with the same text that `health` shows. What is only named here is imported for the type
checker alone: every cold start imports this file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from finetune_wandb.accounts.ports import ReconcilePorts
    from finetune_wandb.flows.events import RefusedEvents
    from finetune_wandb.keys.new_key import RotationPorts
    from finetune_wandb.model.accounts.ports import AccountStore, NoticePort
    from finetune_wandb.model.messages import Message
    from finetune_wandb.model.queues import QueueCount, SetAside
    from finetune_wandb.model.resync import Resync, ResyncItem
    from finetune_wandb.model.settings import Settings
    from finetune_wandb.model.telemetry import Telemetry
    from finetune_wandb.model.work import Problem, Work
    from finetune_wandb.relay.artifacts import ArtifactLog
    from finetune_wandb.relay.passes.finder import Finder
    from finetune_wandb.relay.ports import RelayOptions, RelayPorts


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

    async def put(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """Put a message on a queue, as it was sent."""
        ...

    def poisoned(self) -> AsyncIterator[SetAside]:
        """Yield what is in the poison queues. A message that is not removed is seen again later."""
        ...


class MessagePort(Protocol):
    """The table of messages that were begun and did not end, and of those that were set aside."""

    async def read(self, work: Work) -> Work | None: ...

    async def claim(self, work: Work) -> None:
        """Write a row over the version that was read, or a new one. Raises ConflictError."""
        ...

    async def write(self, work: Work) -> None:
        """Write a row, whatever was there."""
        ...

    async def remove(self, work: Work) -> None: ...

    async def list_open(self) -> list[Work]:
        """Return what was begun and did not end, or ended after a crash."""
        ...

    async def set_aside(self, work: Work) -> None:
        """Keep a message with its cause until it is put back."""
        ...

    async def is_aside(self, work: Work) -> bool: ...

    async def list_aside(self) -> list[Work]: ...

    async def forget_aside(self, work: Work) -> None: ...


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
    problems: ProblemPort
    resyncs: ResyncPort
    notices: NoticePort
    queues: QueuePort
    work: MessagePort
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
