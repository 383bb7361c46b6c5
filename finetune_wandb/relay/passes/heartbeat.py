"""Keeps runs alive in W&B, which calls a run crashed after about five minutes of silence.

Beats go out with every tick, also while Azure cannot be read or the job is parked. They claim
nothing and are not stored; the process remembers when it sent the last one.
"""

from collections.abc import Callable, Sequence
from itertools import batched
from typing import Final

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import WAITING
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.relay.passes.memory import Memory, can_load
from finetune_wandb.relay.passes.select import JOBS_PER_MESSAGE
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.run import wire

HEARTBEAT_S: Final = 30.0
"""W&B is told unless it heard of the run this recently: with a tick a minute, gaps stay below 90 s."""
_BEATING: Final = (RelayState.LIVE, RelayState.PARKED)


def is_due(cursor: Cursor, memory: Memory, ports: RelayPorts, now: float) -> bool:
    """Say whether W&B has to hear that the run is alive. `now` is unix seconds."""
    known = cursor.run is not None and memory.attributes is not None
    if not known or memory.ended or memory.doubted:
        return False
    last = max(cursor.posted_at, ports.beats.get((cursor.account, cursor.job), 0.0))
    return now - last >= HEARTBEAT_S


async def beat(cursor: Cursor, ports: RelayPorts, key: RunKey, now: float) -> bool:
    """Tell W&B that the run is alive; return whether someone pressed Stop on it."""
    assert cursor.run is not None, "only a run that was chosen is alive"
    stopped = await ports.sink.post(cursor.run, wire.HEARTBEAT, key=key)
    ports.beats[cursor.account, cursor.job] = now
    return stopped


async def beat_runs(
    account: RelayAccount, jobs: Sequence[str], *, ports: RelayPorts, clock: Callable[[], float]
) -> int:
    """Keep the runs of jobs alive that Azure does not list at the moment; return how many beats.

    A run that W&B refuses is left to its job's next pass. Raises our errors where cursors or key
    cannot be read.
    """
    key = await ports.keys.run_key(account.secret)
    sent = 0
    for part in batched(jobs, JOBS_PER_MESSAGE, strict=False):
        for cursor in (await ports.cursors.read(account.key, part)).values():
            begun = cursor.rows or cursor.status not in WAITING
            if cursor.relay_state not in _BEATING or not begun or not can_load(cursor):
                continue
            if is_due(cursor, Memory.load(cursor.state, cursor.curve), ports, clock()):
                try:
                    await beat(cursor, ports, key, clock())
                except AppError:
                    continue
                sent += 1
    return sent
