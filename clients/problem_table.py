"""Table `problems`: refused events, accounts whose jobs cannot be listed, and the like."""

import time
from dataclasses import asdict, replace
from typing import Final

from clients.json_rows import JsonRows
from clients.storage import Storage
from model.problem import Problem

TABLE: Final = "problems"
_KEEP_S: Final = 7 * 86400.0


class ProblemTable:
    """ProblemPort over Azure Tables. The same problem again is counted, not repeated."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, TABLE)

    async def note(self, problem: Problem) -> bool:
        """Record a problem; say whether it is a new one."""
        row = f"{problem.subject} {problem.cause}"
        now = time.time()
        known = await self._rows.get(problem.source, row)
        if known is not None and now - known["last_at"] > _KEEP_S:
            known = None
        stored = replace(
            problem,
            first_at=known["first_at"] if known else now,
            last_at=now,
            count=known["count"] + 1 if known else 1,
        )
        await self._rows.put(problem.source, row, asdict(stored))
        return known is None

    async def clear(self, problem: Problem) -> None:
        """Forget a problem that is over."""
        await self._rows.delete(problem.source, f"{problem.subject} {problem.cause}")

    async def list_all(self) -> list[Problem]:
        """Return the problems of the last seven days, the latest first."""
        since = time.time() - _KEEP_S
        found = [Problem(**row) async for row in self._rows.rows()]
        return sorted(
            (item for item in found if item.last_at >= since),
            key=lambda item: item.last_at,
            reverse=True,
        )
