"""What keeps a message from being lost: to a crash, or to a poison queue that forgets.

A message is in the table `work` from its begin to its end. One whose process died is sent again by
the next tick, long before its queue brings it back; the late original finds it done and leaves it.
What failed for good is kept there with its cause until a re-sync of everything puts it back.
Messages that a tick sends are not in it: the next tick sends the same work again.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from finetune_wandb.flows import resync
from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import AppError, ConflictError, NoticeError
from finetune_wandb.model.messages import Message, read_message
from finetune_wandb.model.work import (
    BEAT_S,
    MOST_DEATHS,
    QUEUES,
    REMEMBER_S,
    SetAside,
    Work,
    problem_of,
    work_of,
)

log = logging.getLogger(__name__)

_REST_S: Final = 30.0
"""A second round begins this much later: away from the neighbors that died in the first."""
_ADVICE: Final = (
    'once the cause is fixed, POST /api/resync {"scope": "all"} puts its message back on its queue'
)
_DIED: Final = AppError(
    "the app's process ended again and again while this was worked on",
    remedy="look at the app's log for what ended it",
)
_NOT_BEGUN: Final = AppError(
    "its message went to the poison queue twice and left no cause: the app's process ended first",
    remedy="look at the app's log for what ended it",
)


@contextlib.asynccontextmanager
async def begun(delivery: str, work: Work, app: App) -> AsyncIterator[bool]:
    """Say whether to do a message's work now, and have it sent again if this process dies.

    `delivery` is the message's id in its queue. Raises our errors where storage cannot be used.
    """
    is_wanted, row = await _begin(delivery, work, app)
    if row is None:
        yield is_wanted
        return
    beating = asyncio.create_task(_beat(row, app))
    try:
        yield True
    except Exception:  # raised again: whatever failed, the row must not outlive the try
        await _stop(beating)
        with contextlib.suppress(AppError):  # a tick sends it again then, besides the queue
            await app.work.remove(row)
        raise
    finally:
        await _stop(beating)
    if len(row.begun_by) > 1 or row.second_round:
        await app.work.write(replace(row, done_at=app.clock()))
    else:
        await app.work.remove(row)


async def _begin(delivery: str, work: Work, app: App) -> tuple[bool, Work | None]:
    """Return whether to do the work, and the row that was written for it."""
    now = app.clock()
    row = replace(work, begun_by=(delivery,), alive_at=now)
    try:
        await app.work.claim(row)
        return True, row
    except ConflictError:
        known = await app.work.read(work)
    if known is None:
        return True, None  # the same was done a moment ago
    is_last = bool(known.begun_by) and delivery == known.begun_by[-1]
    if delivery in known.begun_by and (known.done_at or (known.is_alive(now) and not is_last)):
        return False, None
    if known.is_alive(now) and not is_last:
        return True, None  # a message of the same text, sent meanwhile
    died = () if known.done_at else known.begun_by
    row = replace(known, begun_by=(*died, delivery), alive_at=now, sent_at=0.0, done_at=0.0)
    try:
        await app.work.claim(row)
    except ConflictError:
        return False, None  # another delivery came first
    return True, row


async def _beat(row: Work, app: App) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        with contextlib.suppress(AppError):
            await app.work.write(replace(row, alive_at=app.clock()))


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def look_after(app: App) -> None:
    """Send again what died with a process; now and then take in what is in the poison queues."""
    now = app.clock()
    for work in await app.work.list_open():
        if work.done_at:
            if now - work.done_at > REMEMBER_S:
                await app.work.remove(work)
        elif work.is_lost(now):
            await _send_again(work, app)
    if app.poison_looks.is_due("", now):
        await take_in(app, rest_s=_REST_S)


async def _send_again(work: Work, app: App) -> None:
    now = app.clock()
    if work.second_round and not work.begun_by:
        # Its queue has it: it is begun, or comes to the poison queue.
        if now - work.sent_at > REMEMBER_S:
            await set_aside(work, _NOT_BEGUN, app)
    elif len(work.begun_by) >= MOST_DEATHS:
        await _once_more(work, _DIED, _REST_S, app)
    else:
        # Written first: the copy may begin before this returns.
        await app.work.write(replace(work, sent_at=now))
        await app.queues.put(work.queue, work.body)
        log.warning("%s: begun by a process that died; sent again", work.queue)


async def take_in(app: App, *, rest_s: float) -> None:
    """Empty the poison queues: what has no cause yet is sent once more, the rest is kept."""
    async for poisoned in app.queues.poisoned():
        await _take_in(poisoned, rest_s, app)
        # Only now: after a crash it is met again.
        await poisoned.remove()


async def _take_in(poisoned: SetAside, rest_s: float, app: App) -> None:
    work = work_of(poisoned.queue, poisoned.body)
    if await app.work.is_aside(work):
        return
    try:
        message: Message = read_message(work.queue, work.body)
    except NoticeError as error:
        await set_aside(work, error, app)
        return
    if message.by_tick:
        given_up = AppError(
            "a message that a tick had sent was given up",
            remedy="none is needed for its jobs: every tick sends them again",
        )
        await app.problems.note(problem_of(given_up, QUEUES[work.queue], message.subject))
        return
    known = await app.work.read(work)
    # One that is at work, done, or waits for its second round has only the same text.
    if known is None or known.is_lost(app.clock()):
        await _once_more(known or work, _NOT_BEGUN, rest_s, app)


async def _once_more(work: Work, error: AppError, rest_s: float, app: App) -> None:
    """Give a message that may have died of another's fault its second round; then set it aside."""
    if work.second_round:
        await set_aside(work, error, app)
        return
    again = replace(work, begun_by=(), second_round=True, sent_at=app.clock() + rest_s)
    await app.work.write(again)
    await app.queues.put(work.queue, work.body, delay_s=rest_s)


async def set_aside(work: Work, error: AppError, app: App) -> None:
    """Keep a message that failed for good, with its cause, and end its part of a re-sync."""
    remedy = f"{error.remedy}; {_ADVICE}" if error.remedy else _ADVICE
    cause = AppError(error.message, subject=error.subject, code=error.code, remedy=remedy)
    message: Message | None = None
    with contextlib.suppress(NoticeError):
        message = read_message(work.queue, work.body)
    now = app.clock()
    problem = problem_of(cause, QUEUES[work.queue], message.subject if message else "")
    problem = replace(problem, first_at=now, last_at=now)
    if message is not None and message.by_tick:
        await app.problems.note(problem)
        return
    await app.work.set_aside(replace(work, problem=problem))
    if message is not None:
        await resync.give_up(message, cause, app)


async def put_back(app: App) -> int:
    """Put everything that was set aside back on its queue; return how many messages."""
    await take_in(app, rest_s=0.0)
    aside = await app.work.list_aside()
    for work in aside:
        await app.queues.put(work.queue, work.body)
        await app.work.forget_aside(work)
    return len(aside)
