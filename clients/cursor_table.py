"""Cursors in table `jobs`: one partition an account, one row a job.

A row is written under its etag, so two workers can never both believe that they advanced a job.
Only the columns that are searched by are columns; the rest of what people see is one JSON
column, and what only the relay reads is compressed into binary ones.
"""

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import orjson

from clients.json_rows import table_key
from clients.storage import Storage
from clients.translate import translated
from model.cursor import Cursor, JobSeen, RunPath

TABLE: Final = "jobs"
_SERVICE: Final = "Table storage"
_CHUNK: Final = 60_000
"""A binary column holds 64 KiB."""
_BATCH_BYTES: Final = 3_000_000
"""A transaction holds 4 MiB and 100 rows."""
_BATCH_ROWS: Final = 100
_OWN: Final = {"account", "job", "etag", "relay_state", "retry_at", "run", "state", "outbox"}
_INFO: Final = [item.name for item in fields(Cursor) if item.name not in _OWN]


class CursorTable:
    """CursorsPort over Azure Tables."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def read(self, account: str, jobs: Sequence[str]) -> dict[str, Cursor]:
        table = await self._storage.table(TABLE)
        # The SDK's own parameters do not reach into brackets; table keys hold no quotes.
        wanted = " or ".join(f"RowKey eq '{table_key(job)}'" for job in jobs)
        found: dict[str, Cursor] = {}
        with translated(account, _SERVICE):
            async for entity in table.query_entities(
                f"PartitionKey eq '{partition(account)}' and ({wanted})"
            ):
                cursor = _cursor(account, entity)
                found[cursor.job] = cursor
        return found

    async def seen(self, account: str) -> list[JobSeen]:
        table = await self._storage.table(TABLE)
        with translated(account, _SERVICE):
            return [
                JobSeen(entity["job"], entity["relay_state"], entity["retry_at"])
                async for entity in table.query_entities(
                    "PartitionKey eq @account",
                    parameters={"account": partition(account)},
                    select=["job", "relay_state", "retry_at"],
                )
            ]

    async def list_cursors(self, account: str | None = None) -> list[Cursor]:
        """Return every job's cursor without its relay state and outbox, for the status page."""
        table = await self._storage.table(TABLE)
        columns = ["PartitionKey", "job", "relay_state", "retry_at", "run", "info"]
        with translated(account or TABLE, _SERVICE):
            if account is None:
                entities = table.list_entities(select=columns)
            else:
                entities = table.query_entities(
                    "PartitionKey eq @account",
                    parameters={"account": partition(account)},
                    select=columns,
                )
            return [
                _cursor(entity["PartitionKey"].replace("|", "/"), entity)
                async for entity in entities
            ]

    async def save(self, cursors: Sequence[Cursor]) -> set[str]:
        lost: set[str] = set()
        batch: list[tuple[Cursor, dict[str, Any]]] = []
        size = 0
        for cursor in cursors:
            entity, weight = _entity(cursor)
            if batch and (size + weight > _BATCH_BYTES or len(batch) >= _BATCH_ROWS):
                lost |= await self._write(batch)
                batch, size = [], 0
            batch.append((cursor, entity))
            size += weight
        if batch:
            lost |= await self._write(batch)
        return lost

    async def _write(self, batch: list[tuple[Cursor, dict[str, Any]]]) -> set[str]:
        from azure.data.tables import TableTransactionError

        if len(batch) > 1:
            table = await self._storage.table(TABLE)
            operations: list[Any] = [_operation(cursor, entity) for cursor, entity in batch]
            with translated(batch[0][0].account, _SERVICE):
                try:
                    answers = await table.submit_transaction(operations)
                except TableTransactionError:
                    # One row was written by somebody else, so the transaction wrote none.
                    answers = None
            if answers is not None:
                for (cursor, _), answer in zip(batch, answers, strict=True):
                    cursor.etag = answer["etag"]
                return set()
        results = await asyncio.gather(*(self._write_one(*item) for item in batch))
        return {job for job in results if job}

    async def _write_one(self, cursor: Cursor, entity: dict[str, Any]) -> str:
        """Write one row; return its job when somebody else wrote first."""
        from azure.core.exceptions import (
            ResourceExistsError,
            ResourceModifiedError,
            ResourceNotFoundError,
        )

        table = await self._storage.table(TABLE)
        name, body, *options = _operation(cursor, entity)
        with translated(cursor.account, _SERVICE):
            try:
                if name == "create":
                    answer = await table.create_entity(body)
                else:
                    answer = await table.update_entity(body, **options[0])
            except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError):
                return cursor.job
        cursor.etag = answer["etag"]
        return ""


def partition(account: str) -> str:
    """Return an account's partition key. An ARM id holds no quotes, and table keys no slash."""
    return account.lower().replace("/", "|")


def _operation(cursor: Cursor, entity: dict[str, Any]) -> tuple[Any, ...]:
    from azure.core import MatchConditions

    if not cursor.etag:
        return ("create", entity)
    options = {
        "mode": "replace",
        "etag": cursor.etag,
        "match_condition": MatchConditions.IfNotModified,
    }
    return ("update", entity, options)


def _entity(cursor: Cursor) -> tuple[dict[str, Any], int]:
    state = zlib.compress(orjson.dumps(cursor.state), 1)
    outbox = zlib.compress(cursor.outbox, 1) if cursor.outbox else b""
    info = orjson.dumps({name: getattr(cursor, name) for name in _INFO}).decode()
    entity: dict[str, Any] = {
        "PartitionKey": partition(cursor.account),
        "RowKey": table_key(cursor.job),
        "job": cursor.job,
        "relay_state": cursor.relay_state,
        "retry_at": float(cursor.retry_at),
        "run": str(cursor.run) if cursor.run else "",
        "info": info,
        **_chunks("state", state),
        **_chunks("outbox", outbox),
    }
    # Binary travels as base64.
    return entity, (len(state) + len(outbox)) * 4 // 3 + 2 * len(info) + 1000


def _cursor(account: str, entity: Any) -> Cursor:
    info = orjson.loads(entity["info"])
    # Another release of the app may have written other fields.
    known = {name: info[name] for name in _INFO if name in info}
    cursor = Cursor(account, entity["job"], **known)
    cursor.etag = entity.metadata["etag"]
    cursor.relay_state = entity["relay_state"]
    cursor.retry_at = entity["retry_at"]
    cursor.notes = tuple(cursor.notes)
    if entity["run"]:
        cursor.run = RunPath(*entity["run"].split("/", 2))
    if state := _joined("state", entity):
        cursor.state = orjson.loads(zlib.decompress(state))
    if outbox := _joined("outbox", entity):
        cursor.outbox = zlib.decompress(outbox)
    return cursor


def _chunks(name: str, data: bytes) -> dict[str, bytes]:
    return {
        f"{name}{place}": data[start : start + _CHUNK]
        for place, start in enumerate(range(0, len(data), _CHUNK))
    }


def _joined(name: str, entity: Any) -> bytes:
    parts: list[bytes] = []
    while (part := entity.get(f"{name}{len(parts)}")) is not None:
        parts.append(part)
    return b"".join(parts)
