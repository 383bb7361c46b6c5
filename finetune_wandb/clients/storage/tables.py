"""Rows of the app's tables: point reads, queries, single writes and transactions.

A row is written under the version that its writer read (`etag`); a writer that comes second gets
a ConflictError. Tables are made with the first row that is written to them.

Source: "Query Entities", "Insert Entity", "Update Entity" and "Performing entity group
transactions" of the Table service REST reference, version 2019-02-02; held by contract tests
against Azurite.
"""

import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from finetune_wandb.clients.http import Answer, error_for
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.errors import AppError, ConflictError, MissingError, UnavailableError

ANY: Final = "*"
"""In place of an etag: whatever the stored row holds."""
_SERVICE: Final = "Table storage"
_ACCEPT: Final = "application/json;odata=minimalmetadata"
_HEADERS: Final = {
    "DataServiceVersion": "3.0",
    "MaxDataServiceVersion": "3.0;NetFx",
    "Accept": _ACCEPT,
    "Content-Type": "application/json",
    "Prefer": "return-no-content",
}
_PLAIN: Final = re.compile(r"^[A-Za-z0-9_.|-]{1,400}$")
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_ETAG: Final = re.compile(rb"^ETag: *(.+?)\r?$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One row of a transaction. `etag` is the version it replaces; empty for a new row."""

    partition: str
    row: str
    body: bytes
    """The row as a JSON object, its keys included."""
    etag: str = ""
    merge: bool = False
    """Other columns of the stored row stay as they are."""


class Table:
    """One table. A table that does not exist yet has no rows. Every method raises our errors."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._service = storage.tables
        self._name = name

    async def read(self, partition: str, row: str) -> dict[str, Any] | None:
        """Return a row as the service's JSON object, its etag as `odata.etag`; None for none."""
        try:
            return await self._service.request(
                "GET", self._path(partition, row), _row, headers=_HEADERS, subject=self._name
            )
        except MissingError:
            return None

    async def query(
        self, where: str = "", *, columns: tuple[str, ...] = (), most: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows that an OData filter matches (all without one), by key.

        `most` ends the query early: no more than that many rows are returned.
        """
        found: list[dict[str, Any]] = []
        async for rows in self.pages(where, columns=columns, most=most):
            found += rows
            if most is not None and len(found) >= most:
                break
        return found[:most]

    async def pages(
        self, where: str = "", *, columns: tuple[str, ...] = (), most: int | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield the rows that an OData filter matches, page by page of at most `most` or 1,000."""
        parts = [f"$filter={quote(where, safe='')}"] if where else []
        if columns:
            parts.append(f"$select={quote(','.join(columns), safe='')}")
        if most is not None:
            parts.append(f"$top={min(most, 1000)}")
        place = ""
        while True:
            path = f"{self._name}()?{'&'.join(part for part in (*parts, place) if part)}"
            try:
                rows, place = await self._service.request(
                    "GET", path.rstrip("?"), _page, headers=_HEADERS, subject=self._name
                )
            except MissingError:
                return
            yield rows
            if not place:
                return

    async def insert(self, row: Mapping[str, Any]) -> str:
        """Write a new row and return its etag. Raises ConflictError where there is one already."""
        return await self._made(lambda: self._put("POST", self._name, row))

    async def upsert(self, row: Mapping[str, Any], *, merge: bool = False) -> None:
        """Write a row over whatever is there; with `merge` its other columns stay."""
        path = self._path(row["PartitionKey"], row["RowKey"])
        await self._made(lambda: self._put("PATCH" if merge else "PUT", path, row))

    async def update(self, row: Mapping[str, Any], *, etag: str, merge: bool = False) -> str:
        """Write over the version that `etag` names, or over `ANY`, and return the new etag.

        Raises ConflictError where another writer came first, or the row is gone.
        """
        path = self._path(row["PartitionKey"], row["RowKey"])
        try:
            return await self._put("PATCH" if merge else "PUT", path, row, {"If-Match": etag})
        except MissingError as error:
            raise ConflictError("the row is gone", subject=self._name, code=error.code) from None

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; a no-op where there is none."""
        try:
            await self._service.request(
                "DELETE",
                self._path(partition, row),
                lambda _: None,
                headers={**_HEADERS, "If-Match": ANY},
                subject=self._name,
            )
        except MissingError:
            return

    async def write(self, writes: list[RowWrite]) -> list[str]:
        """Write rows of one partition together, all or none; return their etags in order.

        Raises ConflictError where another writer came first to one of them.
        """
        try:
            return await self._transaction(writes)
        except MissingError:
            await self._create()
        try:
            return await self._transaction(writes)
        except MissingError as error:
            raise ConflictError("a row is gone", subject=self._name, code=error.code) from None

    async def _transaction(self, writes: list[RowWrite]) -> list[str]:
        batch, changes = f"batch_{uuid.uuid4()}", f"changeset_{uuid.uuid4()}"
        target = f"{self._service.endpoint}/{self._name}"
        return await self._service.request(
            "POST",
            "$batch",
            lambda answer: _etags(answer, len(writes), self._name),
            headers={**_HEADERS, "Content-Type": f"multipart/mixed; boundary={batch}"},
            body=_batch(writes, target, batch, changes),
            subject=self._name,
        )

    async def _put(
        self,
        method: str,
        path: str,
        row: Mapping[str, Any],
        condition: Mapping[str, str] | None = None,
    ) -> str:
        return await self._service.request(
            method,
            path,
            lambda answer: answer.headers.get("ETag", ""),
            headers={**_HEADERS, **(condition or {})},
            body=_body(row),
            subject=self._name,
        )

    async def _made[T](self, write: Callable[[], Awaitable[T]]) -> T:
        """Write what asks for no version; where that answers 404, the table is not there yet."""
        try:
            return await write()
        except MissingError:
            await self._create()
            return await write()

    async def _create(self) -> None:
        try:
            await self._service.request(
                "POST",
                "Tables",
                lambda _: None,
                headers=_HEADERS,
                body=orjson.dumps({"TableName": self._name}),
                subject=self._name,
            )
        except ConflictError as error:
            if error.code != "TableAlreadyExists":
                raise

    def _path(self, partition: str, row: str) -> str:
        return f"{self._name}({_keys(partition, row)})"


def table_key(text: str) -> str:
    """Return text as a table key: itself with `/` as `|`, or a hash where that cannot be."""
    plain = text.replace("/", "|")
    if _PLAIN.fullmatch(plain):
        return plain
    return "h-" + hashlib.sha256(text.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class JsonRow:
    """A stored row's data, and the version to write over."""

    data: dict[str, Any]
    etag: str


class JsonRows:
    """A small table: keys to search by, and one JSON column with the rest."""

    def __init__(self, storage: Storage, table: str) -> None:
        self._table = Table(storage, table)

    async def read(self, partition: str, row: str) -> JsonRow | None:
        found = await self._table.read(table_key(partition), table_key(row))
        return JsonRow(orjson.loads(found["data"]), found["odata.etag"]) if found else None

    async def put(self, partition: str, row: str, data: dict[str, Any]) -> None:
        """Write a row, whatever was there."""
        await self._table.upsert(_entity(partition, row, data))

    async def write(
        self, partition: str, row: str, data: dict[str, Any], known: JsonRow | None
    ) -> str:
        """Write a row over the one that its writer read, or a new one where that was none.

        Return its etag. Raises ConflictError where another writer came first.
        """
        entity = _entity(partition, row, data)
        if known is None:
            return await self._table.insert(entity)
        return await self._table.update(entity, etag=known.etag)

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; a no-op where there is none."""
        await self._table.delete(table_key(partition), table_key(row))

    async def rows(self, partition: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the data of a partition's rows, or of the whole table's."""
        where = f"PartitionKey eq '{table_key(partition)}'" if partition is not None else ""
        async for page in self._table.pages(where, columns=("data",)):
            for row in page:
                yield orjson.loads(row["data"])


def quoted(text: str) -> str:
    """Return text as it stands between the quotes of a filter."""
    return text.replace("'", "''")


def _keys(partition: str, row: str) -> str:
    first, second = quote(quoted(partition), safe=""), quote(quoted(row), safe="")
    return f"PartitionKey='{first}',RowKey='{second}'"


def _body(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON; times carry their type, without which they would be text."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            columns[f"{name}@odata.type"] = "Edm.DateTime"
        columns[name] = value
    return orjson.dumps(columns)


def _batch(writes: list[RowWrite], target: str, batch: str, changes: str) -> bytes:
    """Return a transaction's body."""
    parts = [f"--{batch}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n".encode()]
    for number, write in enumerate(writes):
        if write.etag:
            verb = "PATCH" if write.merge else "PUT"
            line = f"{verb} {target}({_keys(write.partition, write.row)})"
            condition = f"If-Match: {write.etag}"
        else:
            line, condition = f"POST {target}", "Prefer: return-no-content"
        parts.append(
            (
                f"--{changes}\r\nContent-Type: application/http\r\n"
                f"Content-Transfer-Encoding: binary\r\nContent-ID: {number}\r\n\r\n"
                f"{line} HTTP/1.1\r\nAccept: {_ACCEPT}\r\nContent-Type: application/json\r\n"
                f"DataServiceVersion: 3.0\r\n{condition}\r\n"
                f"Content-Length: {len(write.body)}\r\n\r\n"
            ).encode()
        )
        parts += (write.body, b"\r\n")
    parts.append(f"--{changes}--\r\n--{batch}--\r\n".encode())
    return b"".join(parts)


def _etags(answer: Answer, count: int, table: str) -> list[str]:
    """Return the etags of a transaction's answer. Raises our error for the row that failed."""
    statuses = [int(status) for status in _STATUS.findall(answer.body)]
    failed = next((status for status in statuses if status >= 400), None)
    if failed is not None:
        raise _failure(failed, answer, table)
    etags = [etag.decode() for etag in _ETAG.findall(answer.body)]
    if len(statuses) != count or len(etags) != count:
        raise UnavailableError(
            f"{_SERVICE} answered a transaction in part", subject=table, code="Batch"
        )
    return etags


def _failure(status: int, answer: Answer, table: str) -> AppError:
    if status in (409, 412):
        return ConflictError("another writer came first", subject=table, code=str(status))
    body = answer.body[answer.body.find(b"{") : answer.body.rfind(b"}") + 1]
    return error_for(Answer(status, answer.headers, body), _SERVICE, table)


def _row(answer: Answer) -> dict[str, Any]:
    row = answer.json()
    if not isinstance(row, dict) or "odata.etag" not in row:
        raise UnavailableError(f"{_SERVICE} answered no row", code="NotJson")
    return row


def _page(answer: Answer) -> tuple[list[dict[str, Any]], str]:
    """Return rows, and the part of a query that asks for the next page; empty at the end."""
    try:
        rows: list[dict[str, Any]] = orjson.loads(answer.body)["value"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnavailableError(f"{_SERVICE} answered no rows", code="NotJson") from None
    places = {
        "NextPartitionKey": answer.headers.get("x-ms-continuation-nextpartitionkey"),
        "NextRowKey": answer.headers.get("x-ms-continuation-nextrowkey"),
    }
    return rows, "&".join(
        f"{name}={quote(value, safe='')}" for name, value in places.items() if value
    )


def _entity(partition: str, row: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "PartitionKey": table_key(partition),
        "RowKey": table_key(row),
        "data": orjson.dumps(data).decode(),
    }
