"""Workers that take turns at every call they make, and die or meet faults where they are told to.

Each call passes a gate before and after its effect. A gate waits until the race picks its worker;
so one worker's request can take effect long after another worker has gone on, ticks later too.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from finetune_wandb.model.errors import AppError, ConflictError, ThrottledError, UnavailableError

FAULTS: dict[str, type[AppError]] = {
    "down": UnavailableError,
    "busy": ThrottledError,
    "conflict": ConflictError,
}


class Died(BaseException):
    """The process is gone: nothing of the worker runs any more."""


class WorkerGate:
    """One worker's gate: waits for its turn, then passes, fails, sleeps or dies by its plan.

    The plan has one word for every passing, `""` to pass: a name in FAULTS, `die`, or a number
    of ticks that the request, or its answer, is under way.
    """

    def __init__(self, plan: Iterator[str]) -> None:
        self._plan = plan
        self._dead = False
        self.asleep = 0
        self.waiting: list[asyncio.Future[None]] = []

    async def before(self, call: str) -> None:
        await self._pass(call)

    async def after(self, call: str) -> None:
        await self._pass(call)

    async def _pass(self, call: str) -> None:
        await self._turn()
        word = next(self._plan, "")
        if word.isdigit():
            self.asleep = int(word)
            await self._turn()
        elif word == "die":
            self._dead = True
            raise Died
        elif word:
            raise FAULTS[word](f"{call} failed on purpose", subject=call)

    async def _turn(self) -> None:
        if not self._dead:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
        if self._dead:
            raise Died


class Race:
    """All workers of one example; those that sleep stay from tick to tick."""

    def __init__(self) -> None:
        self._workers: list[tuple[WorkerGate, asyncio.Task[Any]]] = []

    def start(self, gate: WorkerGate, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Add a worker; its result is what the work returns, or the error that ended it."""
        task = asyncio.ensure_future(_quietly(work))
        self._workers.append((gate, task))
        return task

    async def run(self, picks: Iterator[int]) -> None:
        """Let one tick pass: run every worker, a step at a time, until it is done or asleep."""
        for gate, _ in self._workers:
            gate.asleep = max(gate.asleep - 1, 0)
        while True:
            await _settled()
            ready = [
                (gate, turn)
                for gate, _ in self._workers
                if not gate.asleep
                for turn in gate.waiting
            ]
            self._workers = [worker for worker in self._workers if not worker[1].done()]
            if not ready and all(gate.asleep for gate, _ in self._workers):
                return
            if ready:
                gate, turn = ready[next(picks, 0) % len(ready)]
                gate.waiting.remove(turn)
                turn.set_result(None)

    @property
    def over(self) -> bool:
        """Whether no worker is under way."""
        return not self._workers


async def _quietly(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (Died, AppError) as error:
        return error


async def _settled() -> None:
    # Long enough for a task to run from one gate to the next, through gather and semaphores.
    for _ in range(6):
        await asyncio.sleep(0)
