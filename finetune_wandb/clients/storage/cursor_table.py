"""Cursors in table `jobs`: one partition an account, one row a job.

A row is written under its etag, so two workers can never both believe that they advanced a job.
A row that storage cannot hold is that job's failure; the others of its batch are written. Only
what is searched by is a column for itself; the rest of what people see is one JSON column, and
what only the relay reads is compressed into binary ones.
"""

import asyncio
import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import RowWrite, Table, table_key
from finetune_wandb.model.errors import AppError, ConflictError, RejectedError
from finetune_wandb.model.relay.cursor import Cursor, JobSeen, RunPath, Stored
from finetune_wandb.model.relay.state import RelayState

TABLE: Final = "jobs"
_BATCH_BYTES: Final = 3_500_000
"""A transaction holds 4 MiB and 100 rows."""
_BATCH_ROWS: Final = 100
_ROW_BYTES: Final = 1_040_000
"""A row holds 1 MiB, of which the service needs some itself. Azurite takes larger ones."""
_SURELY_FITS: Final = _ROW_BYTES // 2
"""Rows with shorter JSON surely fit: a character of text takes two bytes in storage at most."""
_MOST_COMPARISONS: Final = 14
"""A query takes 15 comparisons: one for the partition and one for each row."""
_MOST_CURVES: Final = 2000
_CHUNK: Final = 60_000
"""A binary column holds 64 KiB."""
_SMALL: Final = 8000
"""Bytes that are stored as they are."""
_COMPRESSED: Final = b"\x78"
_MOST_TEXT: Final = 32_000
"""Characters of a text column: 64 KiB of UTF-16."""
_LONG: Final = 1000
"""Characters that each text keeps where all of them together are too many."""
_SHOWN: Final = ("PartitionKey", "job", "relay_state", "status", "retry_at", "run", "info")
_OWN: Final = {
    "account",
    "job",
    "etag",
    "relay_state",
    "status",
    "retry_at",
    "run",
    "curve",
    "state",
    "outbox",
    "stored",
    "is_unreadable",
}
_INFO: Final = [item.name for item in fields(Cursor) if item.name not in _OWN]


@dataclass(frozen=True, slots=True)
class Change:
    """What is written of a cursor."""

    body: bytes
    """The row as JSON, its keys included."""
    merge: bool
    """The row has only columns that differ from the stored ones."""
    stored: Stored
    """What the table holds once this is written."""


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
                _state_of(row),
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
        rows = await self._table.query(where, columns=_SHOWN)
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
                lost.update(await self._write(batch))
                batch, size = [], 0
            batch.append((cursor, change))
            size += weight
        if batch:
            lost.update(await self._write(batch))
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
        " than a row of 1 MiB can hold is not relayed further: take the rest from its result file",
    )


def _row_write(cursor: Cursor, change: Change) -> RowWrite:
    place = partition(cursor.account), table_key(cursor.job)
    return RowWrite(*place, change.body, cursor.etag, change.merge)


def partition(account: str) -> str:
    """Return an account's partition key. An ARM id holds no quotes, and table keys no slash."""
    return account.lower().replace("/", "|")


def change_of(cursor: Cursor) -> Change:
    """Return the cursor's row, or what has changed of it since it was stored.

    What follows a request to W&B mostly leaves state and curve as they are.
    """
    state, curve = orjson.dumps(cursor.state), orjson.dumps(cursor.curve)
    row: dict[str, Any] = {
        "PartitionKey": partition(cursor.account),
        "RowKey": table_key(cursor.job),
        "job": cursor.job,
        "relay_state": str(cursor.relay_state),
        "status": cursor.status[:_LONG],
        "retry_at": float(cursor.retry_at),
        "run": str(cursor.run) if cursor.run else "",
        "info": _info(cursor),
    }
    known, stored = cursor.stored, Stored(state, curve, cursor.outbox)
    if known and cursor.etag and known.state == state and known.curve == curve:
        if not cursor.outbox:
            # A merge cannot remove columns; an empty one counts as absent.
            _put(row, "outbox", [b""] * len(_parts(known.outbox)))
        if not cursor.outbox or cursor.outbox == known.outbox:
            return Change(orjson.dumps(row), True, stored)
    row["curve"] = curve.decode()
    _put(row, "state", _parts(state))
    _put(row, "outbox", _parts(cursor.outbox))
    return Change(orjson.dumps(row), False, stored)


def _state_of(row: Mapping[str, Any]) -> RelayState:
    """Return a row's state; one that only another version knows counts as set aside."""
    known = row["relay_state"] in RelayState
    return RelayState(row["relay_state"]) if known else RelayState.PARKED


def cursor_of(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    """Return the cursor that a row was made from; columns that were not asked for stay empty.

    One row that cannot be read is that job's failure, not that of the others of a query.
    """
    try:
        return _cursor_of(account, row, etag)
    except (KeyError, TypeError, ValueError, zlib.error):
        cursor = Cursor(account, str(row["job"]), etag, is_unreadable=True)
        cursor.set_aside_unread()
        return cursor


def _cursor_of(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    info = orjson.loads(row["info"])
    # Another release of the app may have written other fields.
    known = {name: info[name] for name in _INFO if name in info}
    cursor = Cursor(account, row["job"], **known)
    cursor.etag = etag
    cursor.relay_state, cursor.status = RelayState(row["relay_state"]), row["status"]
    cursor.retry_at = float(row["retry_at"])
    cursor.notes = tuple(cursor.notes)
    if row["run"]:
        cursor.run = RunPath(*row["run"].split("/", 2))
    state, curve = _joined(row, "state"), row.get("curve") or ""
    cursor.outbox = _joined(row, "outbox")
    if curve:
        cursor.curve = orjson.loads(curve)
    if state:
        cursor.state = orjson.loads(state)
        cursor.stored = Stored(state, curve.encode(), cursor.outbox)
    return cursor


def row_size(body: bytes) -> int:
    """Return what a row counts for against the 1 MiB that one may have, in bytes.

    Source: "Understanding the Table service data model", checked 2026-11-24: names and text two
    bytes a character, binary values their length.
    """
    row: dict[str, Any] = orjson.loads(body)
    size = 0
    for name, value in row.items():
        if not name.endswith("@odata.type"):
            is_binary = f"{name}@odata.type" in row
            size += 2 * len(name) + (len(value) * 3 // 4 if is_binary else 2 * len(str(value)))
    return size


def _info(cursor: Cursor) -> str:
    shown = {name: getattr(cursor, name) for name in _INFO}
    text = orjson.dumps(shown).decode()
    if len(text) <= _MOST_TEXT:
        return text
    # Names and statuses come from outside, in any length; people need their beginning.
    shown = {
        name: value[:_LONG] if isinstance(value, str) else value for name, value in shown.items()
    }
    shown["notes"] = [note[:_LONG] for note in cursor.notes]
    return orjson.dumps(shown).decode()


def _parts(data: bytes) -> list[bytes]:
    """Return the columns that hold these bytes; compressed where that saves more than it costs."""
    if len(data) > _SMALL:
        data = zlib.compress(data, 1)
    return [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]


def _put(row: dict[str, Any], name: str, parts: list[bytes]) -> None:
    for place, part in enumerate(parts):
        row[f"{name}{place}"] = base64.b64encode(part).decode()
        row[f"{name}{place}@odata.type"] = "Edm.Binary"


def _joined(row: Mapping[str, Any], name: str) -> bytes:
    parts: list[bytes] = []
    # What follows an empty column is left over: another zlib may make more parts of the same
    # bytes than the one that counted them.
    while part := row.get(f"{name}{len(parts)}"):
        parts.append(base64.b64decode(part, validate=True))
    data = b"".join(parts)
    # JSON as it is, or compressed, which no JSON begins like.
    return zlib.decompress(data) if data[:1] == _COMPRESSED else data
