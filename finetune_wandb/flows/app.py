"""What handlers are given: the app's ports, connected on first use.

`Deps.app()` raises SettingsProblems while the settings cannot be used, so that every function
refuses with the same text that `health` shows. What it only names is imported for the type
checker alone: every cold start imports this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from finetune_wandb.flows.refused_keys import RefusedKeys

if TYPE_CHECKING:
    from finetune_wandb.accounts.ports import ReconcilePorts
    from finetune_wandb.flows.refusals import Refusals
    from finetune_wandb.keys.rotation_ports import RotationPorts
    from finetune_wandb.model.account import RelayAccount
    from finetune_wandb.model.cursor import Cursor
    from finetune_wandb.model.ids import AccountId
    from finetune_wandb.model.key import KeyChange, KeyRecord
    from finetune_wandb.model.mint import KeyMint
    from finetune_wandb.model.plan import AccountEntry, AccountReport
    from finetune_wandb.model.ports import NoticePort
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

LAST_TRY: Final = 5
"""`maxDequeueCount` of host.json: a message that fails this time is set aside."""


class QueuePort(Protocol):
    async def send(self, messages: Iterable[dict[str, Any]], *, delay_s: float = 0) -> None: ...


class AccountsPort(Protocol):
    async def read(self, account: AccountId) -> AccountEntry | None: ...

    async def write(self, report: AccountReport) -> None: ...

    async def list_all(self) -> list[AccountEntry]: ...

    async def list_for_relay(self) -> list[RelayAccount]: ...
    async def find_for_relay(self, account: AccountId) -> RelayAccount | None: ...

    async def mark_native_seen(self, account: AccountId) -> None: ...


class KeysPort(Protocol):
    async def list_all(self) -> list[KeyRecord]: ...

    async def list_changes(
        self, secret: SecretRef, *, most: int | None = None
    ) -> list[KeyChange]: ...

    async def purge_changes(self, now: datetime) -> int: ...


class MintsPort(Protocol):
    async def list_all(self) -> list[KeyMint]: ...


class JobTablePort(Protocol):
    async def list_cursors(self, account: str | None = None) -> list[Cursor]: ...

    async def curve(self, cursor: Cursor) -> dict[str, Any]: ...


class ProblemPort(Protocol):
    async def note(self, problem: Problem) -> bool: ...

    async def clear(self, problem: Problem) -> None: ...

    async def list_all(self) -> list[Problem]: ...


class ResyncPort(Protocol):
    async def write(self, resync: Resync) -> None: ...

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None: ...

    async def read_head(self, resync_id: str) -> Resync | None: ...

    async def remove(self, resync_id: str) -> None: ...

    async def read_item(self, resync_id: str, name: str) -> ResyncItem | None: ...

    async def add_item(self, resync_id: str, item: ResyncItem) -> None: ...

    async def write_item(self, resync_id: str, item: ResyncItem) -> None: ...

    async def remove_item(self, resync_id: str, name: str) -> None: ...

    async def running(self, fingerprint: str) -> str: ...

    async def claim(self, fingerprint: str, resync: Resync, *, instead_of: str) -> str: ...

    async def latest(self) -> list[tuple[str, float]]: ...


class QueueStatsPort(Protocol):
    async def counts(self) -> list[QueueCount]: ...

    async def requeue(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything the handlers act through. One per process."""

    settings: Settings
    clock: Callable[[], float]
    """Unix seconds."""
    own_principal: Callable[[], Awaitable[str]]
    """Object id of the app's own identity, in lower case."""
    reconcile: ReconcilePorts
    rotation: RotationPorts
    relay: RelayPorts
    options: RelayOptions
    finder: Finder
    accounts: AccountsPort
    jobs: JobTablePort
    keys: KeysPort
    mints: MintsPort
    problems: ProblemPort
    resyncs: ResyncPort
    notices: NoticePort
    reconcile_queue: QueuePort
    relay_queue: QueuePort
    artifacts: ArtifactPort
    artifact_queue: QueuePort
    queues: QueueStatsPort
    refusals: Refusals
    refused_keys: RefusedKeys = field(default_factory=RefusedKeys)
    telemetry: Telemetry
    signed_in: bool
    """Whether App Service Authentication is on, so that its headers can be believed."""

    def now(self) -> datetime:
        """Return the time as a UTC datetime."""
        return datetime.fromtimestamp(self.clock(), UTC)


class Deps(Protocol):
    """Given to every blueprint; connects nothing by itself."""

    def settings(self) -> Settings:
        """Return the settings. Raises SettingsProblems."""
        ...

    async def app(self) -> App:
        """Return the connected app. Raises SettingsProblems."""
        ...
