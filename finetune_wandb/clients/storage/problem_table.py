"""Table `problems`: refused events, accounts whose jobs cannot be listed, and the like."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import JsonRows
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.work import Problem

TABLE: Final = "problems"
_KEEP_S: Final = 7 * 86400.0
_TRIES: Final = 8


class ProblemTable:
    """The same problem again is counted, not repeated."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives unix seconds."""
        self._rows = JsonRows(storage, TABLE)
        self._clock = clock

    async def note(self, problem: Problem) -> bool:
        """Record a problem that came `count` times more; say whether it is a new one.

        Raises ConflictError when other processes keep on writing the same one first.
        """
        row = f"{problem.subject} {problem.cause}"
        for _ in range(_TRIES):
            now = self._clock()
            stored = await self._rows.read(problem.source, row)
            known = stored.data if stored and now - stored.data["last_at"] <= _KEEP_S else None
            noted = replace(
                problem,
                first_at=known["first_at"] if known else now,
                last_at=now,
                count=problem.count + (known["count"] if known else 0),
            )
            with contextlib.suppress(ConflictError):
                await self._rows.write(problem.source, row, asdict(noted), stored)
                return known is None
        raise ConflictError("the problem is being counted elsewhere", subject=problem.subject)

    async def clear(self, problem: Problem) -> None:
        """Forget a problem that is over."""
        await self._rows.delete(problem.source, f"{problem.subject} {problem.cause}")

    async def purge(self) -> None:
        """Remove the problems that did not come in the last seven days."""
        since = self._clock() - _KEEP_S
        async for row in self._rows.rows():
            if row["last_at"] < since:
                await self.clear(Problem(**row))

    async def list_all(self) -> list[Problem]:
        """Return the problems of the last seven days, the latest first."""
        since = self._clock() - _KEEP_S
        found = [Problem(**row) async for row in self._rows.rows()]
        return sorted(
            (item for item in found if item.last_at >= since),
            key=lambda item: item.last_at,
            reverse=True,
        )
