"""Ends the runs of an account that is gone, and lets them go on should it come back.

A run that nobody feeds any more would be shown as crashed, without a reason. What was claimed
for W&B before is sent first, with the same bytes, so that no value is lost or doubled. Decides
nothing about accounts: whether one is gone was read before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor, JobSeen
from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.relay_ports import RunKey
from finetune_wandb.relay.passes.select import CLOSED, JOBS_PER_MESSAGE
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.run import wire

CAUSE: Final = "the Azure account was deleted while its run was open"
REMEDY: Final = (
    "nothing, if it was meant; an account that is recovered goes on in the same runs by itself"
)
NEVER: Final = 2_147_000_000.0
"""Unix seconds, in 2038: a parked job with this time waits for its account. A whole number above
two to the 31 would come back from a table as something else than a number."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What became of an account's open runs."""

    ended: int = 0
    waiting: int = 0
    """Runs whose end W&B has not taken yet: another look is needed."""


async def close_runs(account: RelayAccount, ports: RelayPorts, *, now: float) -> Closed:
    """End every open run of the account as failed, with a line that says why.

    Doing it again does nothing for a run that has its end. Raises TemporaryError when cursors
    or key cannot be read.
    """
    seen = await ports.cursors.seen(account.key)
    open_jobs = [item.job for item in seen if item.relay_state not in CLOSED]
    if not open_jobs:
        return Closed()
    try:
        key: RunKey | AppError = await ports.keys.run_key(account.secret)
    except TemporaryError:
        raise
    except AppError as error:
        key = error
    ended = waiting = 0
    for cursor in await _read(account.key, open_jobs, ports):
        if cursor.retry_at == NEVER and not cursor.outbox:
            continue
        if await _close(cursor, ports, key, now):
            ended += 1
        else:
            waiting += 1
    return Closed(ended, waiting)


async def reopen_runs(account: str, ports: RelayPorts) -> int:
    """Let the jobs that waited for their account be relayed again; return how many.

    `account` is the account id's key. Raises TemporaryError when cursors cannot be read.
    """
    seen = await ports.cursors.seen(account)
    parked = [item.job for item in seen if _waits(item)]
    cursors = await _read(account, parked, ports)
    for cursor in cursors:
        cursor.retry_at = 0.0
        cursor.state = {**cursor.state, "ended": False, "end": ""}
    lost = await ports.cursors.save(cursors) if cursors else set()
    return len(cursors) - len(lost)


def _waits(item: JobSeen) -> bool:
    return item.relay_state == "parked" and item.retry_at == NEVER


async def _close(cursor: Cursor, ports: RelayPorts, key: RunKey | AppError, now: float) -> bool:
    """Return whether the job is closed; False asks for another look."""
    try:
        if cursor.outbox:
            await _post(cursor, ports, key, now)
        if cursor.relay_state == "ending":
            # The run has its end already; late values will not come any more.
            cursor.relay_state, cursor.retry_at = "complete", 0.0
        elif cursor.retry_at != NEVER:
            _claim_end(cursor, now)
        if await ports.cursors.save([cursor]):
            # A relay pass was under way: what it claimed meanwhile comes first.
            return False
        if cursor.outbox:
            await _post(cursor, ports, key, now)
            return not await ports.cursors.save([cursor])
    except TemporaryError:
        return False
    except AppError as error:
        # Whatever was claimed stays in the outbox: a key that works again may still send it.
        cursor.relay_state, cursor.retry_at = "parked", NEVER
        cursor.error = f"{CAUSE}; its run could not be ended: {error.message}"
        cursor.remedy = error.remedy or REMEDY
        return not await ports.cursors.save([cursor])
    return True


async def _post(cursor: Cursor, ports: RelayPorts, key: RunKey | AppError, now: float) -> None:
    if isinstance(key, AppError):
        raise key
    if cursor.run is not None:
        await ports.sink.post(cursor.run, cursor.outbox, key=key)
    cursor.outbox, cursor.posted_at = b"", now


def _claim_end(cursor: Cursor, now: float) -> None:
    """Put the run's end into the outbox, and the job aside until the account is there again."""
    cursor.relay_state, cursor.retry_at = "parked", NEVER
    cursor.error, cursor.remedy = CAUSE, REMEDY
    if cursor.run is None:
        return
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    cursor.outbox = orjson.dumps(
        {
            "files": {
                "output.log": {"offset": cursor.lines, "content": [f"ERROR {stamp} {CAUSE}"]}
            },
            "complete": True,
            "exitcode": wire.exit_code("failed"),
        }
    )
    cursor.lines += 1
    end = orjson.dumps({"complete": True, "exitcode": wire.exit_code("failed")}).decode()
    # A pass that was still sending repeats this end once it finds itself overtaken.
    cursor.state = {**cursor.state, "ended": True, "end": end}


async def _read(account: str, jobs: Sequence[str], ports: RelayPorts) -> list[Cursor]:
    found: list[Cursor] = []
    for part in _parts(jobs):
        found += (await ports.cursors.read(account, part)).values()
    return found


def _parts(jobs: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(jobs), JOBS_PER_MESSAGE):
        yield jobs[start : start + JOBS_PER_MESSAGE]
