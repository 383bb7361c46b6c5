"""Cursors in table `jobs`: one partition an account, one row a job.

A row is written under its etag, so two workers can never both believe that they advanced a job.
A row that storage cannot hold is that job's failure; the others of its batch are written. Only
what is searched by is a column for itself; the rest of what people see is one JSON column, and
what only the relay reads is compressed into binary ones.
"""

import asyncio
import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import batched, chain
from typing import Any, Final

import msgspec
import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import RowWrite, Table, matching, table_key
from finetune_wandb.model.errors import AppError, ConflictError, RejectedError
from finetune_wandb.model.relay.cursor import Cursor, JobSeen, RunPath, Stored
from finetune_wandb.model.relay.state import RelayState

_BATCH_BYTES: Final = 3_500_000
"""A transaction holds 4 MiB and 100 rows."""
_BATCH_ROWS: Final = 100
_ROW_BYTES: Final = 1_040_000
"""A row holds 1 MiB, of which the service needs some itself. Azurite takes larger ones."""
_MOST_COMPARISONS: Final = 14
"""A query takes 15 comparisons: one for the partition and one for each row."""
_MOST_CURVES: Final = 2000
_CHUNK: Final = 60_000
"""A binary column holds 64 KiB."""
_SMALL: Final = 8000
"""Bytes that are stored as they are."""
_MOST_TEXT: Final = 32_000
"""Characters of a text column: 64 KiB of UTF-16."""
_LONG: Final = 1000
"""Characters that each text keeps where all of them together are too many."""
_COLUMNS: Final = ("job", "relay_state", "status", "retry_at", "run")
_OTHERS: Final = ("account", "etag", "curve", "state", "outbox", "stored", "is_unreadable")
"""Fields of a cursor that are stored in their own way, or not at all."""
_INFO: Final = [item.name for item in fields(Cursor) if item.name not in _COLUMNS + _OTHERS]


type _Change = tuple[Cursor, RowWrite, Stored]
"""What is written of a cursor, and what the table holds of it once that is done."""


class CursorTable:
    """CursorsPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._table = Table(storage, "jobs")
        self._curves: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        """Etag and curve of the jobs that were looked at."""

    async def read(self, account: str, jobs: Sequence[str]) -> dict[str, Cursor]:
        cursors = await self._items(account, jobs, partial(_cursor_in, account))
        return {cursor.job: cursor for cursor in cursors}

    async def seen(self, account: str, jobs: Sequence[str] | None = None) -> list[JobSeen]:
        return await self._items(account, jobs, _seen_in, columns=_COLUMNS)

    async def _items[T](
        self,
        account: str,
        jobs: Sequence[str] | None,
        decode: Callable[[dict[str, Any]], T],
        *,
        columns: tuple[str, ...] = (),
    ) -> list[T]:
        """Return what the rows of these jobs hold, asked for by their keys; of all jobs for None."""
        if jobs is None:
            return await self._table.items(decode, matching(partition(account)), columns=columns)
        keys = (f"RowKey eq '{table_key(job)}'" for job in jobs)
        queries = [
            f"{matching(partition(account))} and ({' or '.join(some)})"
            for some in batched(keys, _MOST_COMPARISONS, strict=False)
        ]
        answers = await asyncio.gather(
            *(self._table.items(decode, where, columns=columns) for where in queries)
        )
        return list(chain.from_iterable(answers))

    async def list_cursors(self, account: str | None = None) -> list[Cursor]:
        where = matching(partition(account)) if account else ""
        columns = ("PartitionKey", *_COLUMNS, "info")
        return await self._table.items(
            lambda row: _cursor_in(row["PartitionKey"].replace("|", "/"), row),
            where,
            columns=columns,
        )

    async def curve(self, cursor: Cursor) -> dict[str, Any]:
        known = self._curves.get((cursor.account, cursor.job))
        if known and known[0] == cursor.etag:
            return known[1]
        where = matching(partition(cursor.account), table_key(cursor.job))
        rows = await self._table.query(where, columns=("curve",))
        found: dict[str, Any] = orjson.loads((rows[0].get("curve") if rows else "") or "{}")
        if len(self._curves) > _MOST_CURVES:
            self._curves.clear()
        self._curves[cursor.account, cursor.job] = (cursor.etag, found)
        return found

    async def save(self, cursors: Sequence[Cursor]) -> dict[str, AppError]:
        lost: dict[str, AppError] = {}
        batch: list[_Change] = []
        size = 0
        for cursor in cursors:
            try:
                write, stored = change_of(cursor)
            except RejectedError as error:
                lost[cursor.job] = error
                continue
            weight = len(write.body) + 1000
            if batch and (size + weight > _BATCH_BYTES or len(batch) >= _BATCH_ROWS):
                lost = await self._write(batch) | lost
                batch, size = [], 0
            batch.append((cursor, write, stored))
            size += weight
        return lost | (await self._write(batch) if batch else {})

    async def _write(self, batch: list[_Change]) -> dict[str, AppError]:
        """Write rows together; one by one where one of them was refused or written before."""
        job = batch[0][0].job
        try:
            etags = await self._table.write([write for _, write, _ in batch])
        except ConflictError:
            error: AppError = ConflictError("another worker wrote the job first", subject=job)
        except RejectedError as refusal:
            error = _refused(job, refusal.code)
        else:
            for (cursor, _, stored), etag in zip(batch, etags, strict=True):
                cursor.etag, cursor.stored = etag, stored
            return {}
        if len(batch) == 1:
            return {job: error}
        lost = await asyncio.gather(*(self._write([one]) for one in batch))
        return dict(chain.from_iterable(one.items() for one in lost))


def _refused(job: str, code: str) -> RejectedError:
    return RejectedError(
        f"table storage cannot hold what the relay has to remember of this job ({code})",
        subject=job,
        code="cursor",
        remedy="the run keeps what it has; a job that publishes more metrics, or more scattered steps,"
        " than a row of 1 MiB can hold is not relayed further: take the rest from its result file",
    )


def partition(account: str) -> str:
    """Return an account's partition key. An ARM id holds no quotes, and table keys no slash."""
    return account.lower().replace("/", "|")


def change_of(cursor: Cursor) -> tuple[RowWrite, Stored]:
    """Return the write of the cursor's row, or of what has changed of it since it was stored, and
    what the table then holds. Raises RejectedError where no row can hold it.

    What follows a request to W&B mostly leaves state and curve as they are.
    """
    state, curve = orjson.dumps(cursor.state), orjson.dumps(cursor.curve)
    place = partition(cursor.account), table_key(cursor.job)
    row: dict[str, Any] = {
        "PartitionKey": place[0],
        "RowKey": place[1],
        "job": cursor.job,
        "relay_state": str(cursor.relay_state),
        "status": cursor.status[:_LONG],
        "retry_at": float(cursor.retry_at),
        "run": str(cursor.run) if cursor.run else "",
        "info": _info(cursor),
    }
    known, stored = cursor.stored, Stored(state, curve, cursor.outbox)
    merge = False
    if known and cursor.etag and known.state == state and known.curve == curve:
        merge = cursor.outbox in (b"", known.outbox)
        if not cursor.outbox:
            # A merge cannot remove columns; an empty one counts as absent.
            _put(row, "outbox", [b""] * len(_parts(known.outbox)))
    if not merge:
        row["curve"] = curve.decode()
        _put(row, "state", _parts(state))
        _put(row, "outbox", _parts(cursor.outbox))
    if _size(row) > _ROW_BYTES:
        raise _refused(cursor.job, "EntityTooLarge")
    return RowWrite(*place, orjson.dumps(row), cursor.etag, merge), stored


def _seen_in(row: Mapping[str, Any]) -> JobSeen:
    """Return what the finder needs of a row; what only another version can read of it counts as
    set aside, so that the job's pass says why."""
    try:
        return JobSeen(
            job=row["job"],
            relay_state=RelayState(row["relay_state"]),
            retry_at=float(row["retry_at"]),
            status=row["status"],
            has_run=bool(row["run"]),
        )
    except (KeyError, TypeError, ValueError):
        return JobSeen(job=row["job"], relay_state=RelayState.PARKED, retry_at=0.0)


def _cursor_in(account: str, row: Mapping[str, Any]) -> Cursor:
    return cursor_of(account, row, row["odata.etag"])


def cursor_of(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    """Return the cursor that a row was made from; columns that were not asked for stay empty.

    One row that cannot be read is that job's failure, not that of the others of a query.
    """
    try:
        return _read_cursor(account, row, etag)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError, zlib.error):
        cursor = Cursor(account, str(row["job"]), etag, is_unreadable=True)
        cursor.set_aside_unread()
        return cursor


def _read_cursor(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    info = orjson.loads(row["info"])
    # Another release of the app may have written other fields.
    known = {name: info[name] for name in _INFO if name in info}
    columns = {name: row[name] for name in ("job", "relay_state", "status", "retry_at")}
    cursor = msgspec.convert({**known, **columns, "account": account, "etag": etag}, Cursor)
    cursor.run = RunPath(*row["run"].split("/", 2)) if row["run"] else None
    cursor.outbox = _joined(row, "outbox")
    curve = row.get("curve") or ""
    if curve:
        cursor.curve = orjson.loads(curve)
    if state := _joined(row, "state"):
        cursor.state = orjson.loads(state)
        cursor.stored = Stored(state, curve.encode(), cursor.outbox)
    return cursor


def _size(row: dict[str, Any]) -> int:
    """Return what a row counts for against the 1 MiB that one may have, in bytes.

    Source: "Understanding the Table service data model", checked 2026-11-24: names and text two
    bytes a character, binary values their length.
    """
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
    return zlib.decompress(data) if data[:1] == b"\x78" else data
