"""Runs that no pass reaches: kept alive while Azure lists no jobs, ended with the reason when job or
account is gone or out of scope.

A run without news would be shown as crashed. What was claimed for W&B before is sent first, with
the same bytes, so that no value is lost or doubled. A job that is listed again goes on in the same
run (`JobPass`). Whether something is gone was decided before.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Final

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, MissingError, TemporaryError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import WAITING
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.relay.state import CLOSED, Happened, RelayState
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.outbox import body, error_line
from finetune_wandb.relay.passes.place import beat, beat_is_due, confirm_end, deliver
from finetune_wandb.relay.passes.schedule import SLOWEST_S
from finetune_wandb.relay.ports import JOBS_PER_MESSAGE, RelayPorts

_BEATING: Final = (RelayState.LIVE, RelayState.PARKED)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run ends before its job: shown in the status and as the run's last line."""

    text: str
    remedy: str = ""
    happened: Happened = Happened.GONE


ACCOUNT_DELETED: Final = Reason(
    "the Azure account was deleted while its run was open",
    "no action is needed if that was intended; a recovered account goes on in the same runs",
)
OUT_OF_SCOPE: Final = Reason(
    "the account left the scope of the relay while its run was open",
    "see the account's findings in /api/status; once it is in scope again, the run goes on",
)
JOB_DELETED: Final = Reason("the fine-tuning job was deleted in Azure while its run was open")
NATIVE: Final = Reason(
    "the job carries its own W&B integration (NATIVE_JOBS=skip)", happened=Happened.NATIVE
)


@dataclass(frozen=True, slots=True)
class Closed:
    """What became of the open runs."""

    ended: int = 0
    waiting: int = 0
    """Runs whose end W&B has not taken yet: another look is needed."""


async def beat_runs(
    account: RelayAccount, jobs: Sequence[str], *, ports: RelayPorts, clock: Callable[[], float]
) -> int:
    """Keep the runs of jobs alive that Azure does not list at the moment; return how many beats.

    A run that W&B refuses is left to its job's next pass. Raises our errors where cursors or key
    cannot be read.
    """
    key = await ports.keys.run_key(account.secret)
    sent = 0
    async for cursor, memory in _readable(account, jobs, ports):
        begun = cursor.rows or cursor.status not in WAITING
        if cursor.relay_state not in _BEATING or not begun:
            continue
        if beat_is_due(cursor, memory, ports, clock()):
            try:
                await beat(cursor, ports, key, clock())
            except AppError:
                continue
            sent += 1
    return sent


async def close_runs(
    account: RelayAccount,
    ports: RelayPorts,
    reason: Reason,
    *,
    now: float,
    jobs: Sequence[str] | None = None,
) -> Closed:
    """End the open runs of these jobs, of all jobs of the account where none are named.

    Doing it again does nothing for a run that has its end. Raises TemporaryError when cursors
    or key cannot be read.
    """
    seen = await ports.cursors.seen(account.key, jobs)
    wanted = [item.job for item in seen if item.relay_state not in CLOSED]
    if not wanted:
        return Closed()
    try:
        key: RunKey | AppError = await ports.keys.run_key(account.secret)
    except TemporaryError:
        raise
    except AppError as error:
        key = error
    closing, ended, waiting = Closing(ports, key, now), 0, 0
    async for cursor, memory in _readable(account, wanted, ports):
        if cursor.relay_state == RelayState.DETACHED and not cursor.outbox:
            waiting += not await closing.confirm(cursor, memory)
        elif await closing.end(cursor, memory, reason):
            ended += 1
        else:
            waiting += 1
    return Closed(ended, waiting)


async def _readable(
    account: RelayAccount, jobs: Iterable[str], ports: RelayPorts
) -> AsyncIterator[tuple[Cursor, Memory]]:
    """Yield what is stored of these jobs; the version that wrote another shape sees to its runs."""
    for part in batched(jobs, JOBS_PER_MESSAGE, strict=False):
        for cursor in (await ports.cursors.read(account.key, part)).values():
            if memory := Memory.readable(cursor):
                yield cursor, memory


@dataclass(frozen=True, slots=True)
class Closing:
    """Ends runs, as of `now` (unix seconds)."""

    ports: RelayPorts
    key: RunKey | AppError
    """The key in use, or why there is none."""
    now: float

    async def end(self, cursor: Cursor, memory: Memory, reason: Reason) -> bool:
        """End one run; return whether that is done. False asks for another look."""
        save = self.ports.cursors.save
        try:
            if cursor.outbox:
                await self._post(cursor)
            self._claim_end(cursor, memory, reason)
            if await save([cursor]):
                # A pass was under way: what it claimed meanwhile comes first.
                return False
            if cursor.outbox:
                await self._post(cursor)
                return not await save([cursor])
        except TemporaryError:
            return False
        except AppError as error:
            # What was claimed stays in the outbox, and a run that was not ended keeps its state: a
            # key that works again, or the next look, still sends both.
            cursor.error = f"{reason.text}; its run could not be ended: {error.message}"
            cursor.remedy = error.remedy or reason.remedy
            is_gone = isinstance(error, MissingError) and await self._is_gone(cursor)
            if is_gone:
                cursor.retry_at = 0.0
                if cursor.relay_state != RelayState.DETACHED:
                    cursor.move(reason.happened)
            return not await save([cursor]) and is_gone
        return True

    async def _is_gone(self, cursor: Cursor) -> bool:
        """Say whether W&B shows no such run: one that a person deleted needs no end."""
        assert cursor.run is not None, "only a run that was chosen can be asked for"
        if isinstance(self.key, AppError):
            return False
        try:
            return await self.ports.sink.read_run(cursor.run, key=self.key) is None
        except AppError:
            return False

    async def confirm(self, cursor: Cursor, memory: Memory) -> bool:
        """Say the end again where W&B shows another; return whether nothing can undo it any more.

        A request of a worker that was overtaken, or killed, may have come after the end.
        """
        is_open = cursor.retry_at and cursor.run is not None and memory.end
        if not is_open or isinstance(self.key, AppError):
            return True
        try:
            await confirm_end(cursor, memory, self.ports.sink, self.key)
        except AppError:
            return False
        if self.now < cursor.retry_at:
            return False
        cursor.retry_at = 0.0
        return not await self.ports.cursors.save([cursor])

    async def _post(self, cursor: Cursor) -> None:
        if isinstance(self.key, AppError):
            raise self.key
        if cursor.run is not None:
            await deliver(cursor, self.ports.sink, self.key)
        cursor.outbox, cursor.posted_at = b"", self.now

    def _claim_end(self, cursor: Cursor, memory: Memory, reason: Reason) -> None:
        """Put the run's end into the outbox, where the run has none."""
        cursor.listed_at = self.now
        if cursor.relay_state != RelayState.DETACHED:
            cursor.move(reason.happened)
            cursor.retry_at = 0.0
        if memory.ended:
            if cursor.error.startswith(reason.text):  # an earlier look could not end it
                cursor.error, cursor.remedy = reason.text, reason.remedy
            return
        cursor.error, cursor.remedy = reason.text, reason.remedy
        if cursor.run is None:
            return
        line = error_line(reason.text, self.now)
        cursor.outbox = body(lines=[line], line_offset=cursor.lines, exitcode=1)
        cursor.lines += 1
        cursor.retry_at = self.now + SLOWEST_S
        memory.ended, memory.end = True, body(exitcode=1).decode()
        memory.put_into(cursor)
