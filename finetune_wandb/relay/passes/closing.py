"""Ends runs whose job or account is gone or out of scope, with the reason.

A run without news would be shown as crashed. What was claimed for W&B before is sent first, with
the same bytes, so that no value is lost or doubled. A job that is listed again goes on in the same
run (`JobPass`). Whether something is gone was decided before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched
from typing import Final

import orjson

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.relay.state import CLOSED, Happened, RelayState
from finetune_wandb.relay.passes.memory import Memory, can_load
from finetune_wandb.relay.passes.place import confirm_end
from finetune_wandb.relay.passes.schedule import SLOWEST_S
from finetune_wandb.relay.passes.select import JOBS_PER_MESSAGE
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.run import wire


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
    ended = waiting = 0
    for part in batched(wanted, JOBS_PER_MESSAGE, strict=False):
        for cursor in (await ports.cursors.read(account.key, part)).values():
            if not can_load(cursor):
                continue  # the version that wrote the row ends its run
            if cursor.relay_state == RelayState.DETACHED and not cursor.outbox:
                waiting += not await _confirmed(cursor, ports, key, now)
                continue
            if await close_run(cursor, ports, key, reason, now=now):
                ended += 1
            else:
                waiting += 1
    return Closed(ended, waiting)


async def close_run(
    cursor: Cursor, ports: RelayPorts, key: RunKey | AppError, reason: Reason, *, now: float
) -> bool:
    """End one run; return whether that is done. False asks for another look."""
    try:
        if cursor.outbox:
            await _post(cursor, ports, key, now)
        _claim_end(cursor, reason, now)
        if await ports.cursors.save([cursor]):
            # A pass was under way: what it claimed meanwhile comes first.
            return False
        if cursor.outbox:
            await _post(cursor, ports, key, now)
            return not await ports.cursors.save([cursor])
    except TemporaryError:
        return False
    except AppError as error:
        # What was claimed stays in the outbox: a key that works again may still send it.
        if cursor.relay_state != RelayState.DETACHED:
            cursor.move(reason.happened)
        cursor.error = f"{reason.text}; its run could not be ended: {error.message}"
        cursor.remedy = error.remedy or reason.remedy
        return not await ports.cursors.save([cursor])
    return True


async def _confirmed(cursor: Cursor, ports: RelayPorts, key: RunKey | AppError, now: float) -> bool:
    """Say the end again where W&B shows another; return whether nothing can undo it any more.

    A request of a worker that was overtaken, or killed, may have come after the end.
    """
    memory = Memory.load(cursor.state, cursor.curve)
    if not cursor.retry_at or cursor.run is None or not memory.end or isinstance(key, AppError):
        return True
    try:
        await confirm_end(cursor.run, memory.end.encode(), ports.sink, key)
    except AppError:
        return False
    if now < cursor.retry_at:
        return False
    cursor.retry_at = 0.0
    return not await ports.cursors.save([cursor])


async def _post(cursor: Cursor, ports: RelayPorts, key: RunKey | AppError, now: float) -> None:
    if isinstance(key, AppError):
        raise key
    if cursor.run is not None:
        await ports.sink.post(cursor.run, cursor.outbox, key=key)
    cursor.outbox, cursor.posted_at = b"", now


def _claim_end(cursor: Cursor, reason: Reason, now: float) -> None:
    """Put the run's end into the outbox, where the run has none."""
    cursor.listed_at = now
    if cursor.relay_state == RelayState.DETACHED:
        return
    memory = Memory.load(cursor.state, cursor.curve)
    cursor.move(reason.happened)
    cursor.retry_at = 0.0
    if memory.ended:
        return
    cursor.error, cursor.remedy = reason.text, reason.remedy
    if cursor.run is None:
        return
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    line = f"ERROR {stamp} {reason.text}"
    cursor.outbox = orjson.dumps(
        {
            "files": {"output.log": {"offset": cursor.lines, "content": [line]}},
            "complete": True,
            "exitcode": wire.exit_code("failed"),
        }
    )
    cursor.lines += 1
    cursor.retry_at = now + SLOWEST_S
    memory.ended = True
    memory.end = orjson.dumps({"complete": True, "exitcode": wire.exit_code("failed")}).decode()
    cursor.state = memory.dump()
