"""Cursors in table `jobs`: one partition an account, one row a job.

A row is written under its etag, so two workers can never both believe that they advanced a job.
A row that storage cannot hold is that job's failure; the others of its batch are written.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import orjson

from finetune_wandb.clients.storage.cursor_rows import (
    SHOWN,
    Change,
    change_of,
    cursor_of,
    partition,
    row_size,
)
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import RowWrite, Table, table_key
from finetune_wandb.model.cursor import Cursor, JobSeen
from finetune_wandb.model.errors import AppError, ConflictError, RejectedError
from finetune_wandb.model.relay_state import RelayState

TABLE: Final = "jobs"
_BATCH_BYTES: Final = 3_500_000
"""A transaction holds 4 MiB and 100 rows."""
_BATCH_ROWS: Final = 100
_ROW_BYTES: Final = 1_040_000
"""A row holds 1 MiB, of which the service needs some itself. Azurite takes larger ones."""
_SURELY_FITS: Final = _ROW_BYTES // 2
"""A row whose JSON is no longer than this need not be weighed: text counts double at most."""
_MOST_COMPARISONS: Final = 14
"""A query takes 15 comparisons: one for the partition and one for each row."""
_MOST_CURVES: Final = 2000


class CursorTable:
    """CursorsPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage, TABLE)
        self._curves: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        """Etag and curve of the jobs that were looked at."""

    async def read(self, account: str, jobs: Sequence[str]) -> dict[str, Cursor]:
        rows = await self._rows(account, jobs)
        cursors = (cursor_of(account, row, row["odata.etag"]) for row in rows)
        return {cursor.job: cursor for cursor in cursors}

    async def seen(self, account: str, jobs: Sequence[str] | None = None) -> list[JobSeen]:
        columns = ("job", "relay_state", "retry_at", "status", "run")
        if jobs is None:
            where = f"PartitionKey eq '{partition(account)}'"
            rows = await self._table.query(where, columns=columns)
        else:
            rows = await self._rows(account, jobs, columns=columns)
        return [
            JobSeen(
                row["job"],
                RelayState(row["relay_state"]),
                float(row["retry_at"]),
                row["status"],
                bool(row["run"]),
            )
            for row in rows
        ]

    async def _rows(
        self, account: str, jobs: Sequence[str], *, columns: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        """Return the stored rows of these jobs, asked for by their keys."""
        keys = [f"RowKey eq '{table_key(job)}'" for job in jobs]
        queries = [
            f"PartitionKey eq '{partition(account)}' and ({' or '.join(part)})"
            for part in (
                keys[start : start + _MOST_COMPARISONS]
                for start in range(0, len(keys), _MOST_COMPARISONS)
            )
        ]
        answers = await asyncio.gather(
            *(self._table.query(where, columns=columns) for where in queries)
        )
        return [row for rows in answers for row in rows]

    async def list_cursors(self, account: str | None = None) -> list[Cursor]:
        """Return every job's cursor without its relay state and outbox, for the status page."""
        where = f"PartitionKey eq '{partition(account)}'" if account else ""
        rows = await self._table.query(where, columns=SHOWN)
        return [
            cursor_of(row["PartitionKey"].replace("|", "/"), row, row["odata.etag"]) for row in rows
        ]

    async def curve(self, cursor: Cursor) -> dict[str, Any]:
        """Return the points of a listed job's losses, none for a job without any."""
        account, job = cursor.account, cursor.job
        known = self._curves.get((account, job))
        if known and known[0] == cursor.etag:
            return known[1]
        rows = await self._table.query(
            f"PartitionKey eq '{partition(account)}' and RowKey eq '{table_key(job)}'",
            columns=("curve",),
        )
        found: dict[str, Any] = orjson.loads((rows[0].get("curve") if rows else "") or "{}")
        if len(self._curves) > _MOST_CURVES:
            self._curves.clear()
        self._curves[account, job] = (cursor.etag, found)
        return found

    async def save(self, cursors: Sequence[Cursor]) -> dict[str, AppError]:
        lost: dict[str, AppError] = {}
        batch: list[tuple[Cursor, Change]] = []
        size = 0
        for cursor in cursors:
            change = change_of(cursor)
            if len(change.body) > _SURELY_FITS and row_size(change.body) > _ROW_BYTES:
                lost[cursor.job] = _refused(cursor.job, "EntityTooLarge")
                continue
            weight = len(change.body) + 1000
            if batch and (size + weight > _BATCH_BYTES or len(batch) >= _BATCH_ROWS):
                lost |= await self._write(batch)
                batch, size = [], 0
            batch.append((cursor, change))
            size += weight
        if batch:
            lost |= await self._write(batch)
        return lost

    async def _write(self, batch: list[tuple[Cursor, Change]]) -> dict[str, AppError]:
        """Write rows together; one by one where one of them was refused or written before."""
        job = batch[0][0].job
        try:
            etags = await self._table.write([_row_write(*one) for one in batch])
        except ConflictError:
            error: AppError = ConflictError("another worker wrote the job first", subject=job)
        except RejectedError as refusal:
            error = _refused(job, refusal.code)
        else:
            for (cursor, change), etag in zip(batch, etags, strict=True):
                cursor.etag, cursor.stored = etag, change.stored
            return {}
        if len(batch) == 1:
            return {job: error}
        lost: dict[str, AppError] = {}
        for one in await asyncio.gather(*(self._write([one]) for one in batch)):
            lost |= one
        return lost


def _refused(job: str, code: str) -> RejectedError:
    return RejectedError(
        f"table storage cannot hold what the relay has to remember of this job ({code})",
        subject=job,
        code="cursor",
        remedy="the run keeps what it has; a job that publishes more metrics, or more scattered steps,"
        " than a row of 1 MiB can tell is not relayed further: take the rest from its result file",
    )


def _row_write(cursor: Cursor, change: Change) -> RowWrite:
    place = partition(cursor.account), table_key(cursor.job)
    return RowWrite(*place, change.body, cursor.etag, change.merge)
