"""What the relay needs from the outside, as protocols that clients and fakes satisfy."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.messages import Message
from finetune_wandb.model.relay.cursor import Cursor, JobSeen, RunPath
from finetune_wandb.model.secret import Secret, SecretRef


@dataclass(frozen=True, slots=True)
class RunKey:
    """A key that W&B accepted, for one pass."""

    entity: str
    """The key's own entity."""
    value: Secret
    """The key that was in use when the pass began."""
    renew: Callable[[], Awaitable[Secret]] | None = field(default=None, compare=False)
    """Returns the key in use at the time of the call; None: only `value` exists."""

    async def current(self) -> Secret:
        """Return the key that a request may carry if it starts now.

        Call it before every request and every retry: a pass may send for minutes, and a key may be
        replaced meanwhile. Raises DeniedError with code 401 once W&B refuses the key in use, and a
        TemporaryError when the record of it cannot be read.
        """
        return await self.renew() if self.renew else self.value


@dataclass(frozen=True, slots=True)
class Listing:
    """One page as the API gave it: items in its order."""

    items: list[dict[str, Any]]
    has_more: bool
    digest: bytes = b""
    """Equal for answers of the same bytes."""
    unchanged: bool = False
    """The answer has the known digest; its items were not parsed."""
    unusable: int = 0
    """How many items were left out because they are not objects."""


@dataclass(frozen=True, slots=True)
class RunAttributes:
    """Everything about a run except its values."""

    display_name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    notes: str
    config: dict[str, Any] = field(default_factory=dict)
    """Plain values; the sink wraps them for W&B."""


@dataclass(frozen=True, slots=True)
class EnsuredRun:
    """A run that W&B has now."""

    path: RunPath
    """Its real path: the server may answer with another spelling."""
    inserted: bool
    """W&B did not have it before."""


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What W&B says of a run. Its counters lag by seconds."""

    state: str
    """`running`, `finished`, `failed`, `crashed`, `killed`, `pending`, …"""
    rows: int
    lines: int
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    """Plain values."""
    tags: tuple[str, ...]
    is_relayed: bool
    """This app created it, or another instance of it."""


@dataclass(frozen=True, slots=True)
class RunAlert:
    """An alert on a run. `kind` is its name in ALERTS."""

    kind: str
    reason: str
    """Unique in a job."""
    title: str
    text: str
    level: str = "WARN"
    """INFO, WARN or ERROR."""


class JobsPort(Protocol):
    """The fine-tuning API of an account. Every method raises our errors only."""

    def list_jobs(
        self, account: RelayAccount, after: str | None, limit: int, *, known: bytes = b""
    ) -> Awaitable[Listing]:
        """Return a page of jobs, newest first; `known` is the digest of a page known already."""
        ...

    def read_job(self, account: RelayAccount, job: str) -> Awaitable[dict[str, Any]]: ...

    def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Awaitable[Listing]: ...

    def list_checkpoints(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Awaitable[Listing]: ...

    def cancel_job(self, account: RelayAccount, job: str) -> Awaitable[None]: ...

    def describe_file(self, account: RelayAccount, file_id: str) -> Awaitable[dict[str, Any]]:
        """Return a file's object: `filename`, `bytes`, …"""
        ...

    def read_file(self, account: RelayAccount, file_id: str) -> AsyncIterator[bytes]: ...


class CursorsPort(Protocol):
    """Cursors of an account's jobs; all of an account lie together."""

    def read(self, account: str, jobs: Sequence[str]) -> Awaitable[dict[str, Cursor]]:
        """Return the stored cursors of these jobs; jobs without one are left out."""
        ...

    def save(self, cursors: Sequence[Cursor]) -> Awaitable[dict[str, AppError]]:
        """Write cursors of one account, outbox included, each under its etag.

        Return the jobs whose cursor is not written, and why: ConflictError where another worker
        wrote it first, RejectedError where storage cannot hold it. Saved cursors carry their new
        etag.
        """
        ...

    def seen(self, account: str, jobs: Sequence[str] | None = None) -> Awaitable[list[JobSeen]]:
        """Return the state of these jobs of an account, of every known one if none is named.

        A job that was never stored is left out."""
        ...

    def list_cursors(self, account: str | None = None) -> Awaitable[list[Cursor]]:
        """Return the cursors of an account, or of all, without state, outbox and curve."""
        ...

    def curve(self, cursor: Cursor) -> Awaitable[dict[str, Any]]:
        """Return a few points of the job's losses."""
        ...


class SinkPort(Protocol):
    """W&B runs. Raises DeniedError (key refused: code 401, no right: 403), MissingError (code `run`:
    not found, which may pass), RejectedError (code `deleted`: the run's id is used up; `entity` and
    `project`: W&B knows no such place), or a TemporaryError."""

    def ensure_run(
        self,
        run: RunPath,
        attributes: RunAttributes,
        *,
        is_new: bool,
        pending: bool,
        key: RunKey,
    ) -> Awaitable[EnsuredRun]:
        """Create the run or bring its attributes up to date.

        With `is_new` it gets its name and notes too, and nothing is repeated: a second request
        would hide that the first one made the run. No tags: they stay as they are.
        """
        ...

    def read_run(self, run: RunPath, *, key: RunKey) -> Awaitable[RunSeen | None]:
        """Return what W&B has at this path; None if the key sees no such run."""
        ...

    def post(self, run: RunPath, body: bytes, *, key: RunKey) -> Awaitable[bool]:
        """Send one file_stream body; return whether Stop was pressed on the run in W&B."""
        ...

    def alert(self, run: RunPath, alert: RunAlert, *, key: RunKey) -> Awaitable[None]:
        """Raise an alert on the run; one with a title that it had within a day reaches nobody."""
        ...


class KeysPort(Protocol):
    """The keys in use."""

    def run_key(self, secret: SecretRef) -> Awaitable[RunKey]:
        """Return the key in use. Raises MissingError while none was accepted."""
        ...


class WorkPort(Protocol):
    """The app's queues: each message goes to its own."""

    def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> Awaitable[None]:
        """Send each message; the host sees it after `delay_s` seconds (at most seven days)."""
        ...
