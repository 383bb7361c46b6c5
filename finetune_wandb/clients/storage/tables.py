"""Rows of the app's tables: point reads, queries, single writes and transactions.

A row is written under the version that its writer read (`etag`); a writer that comes second gets
a ConflictError. Tables are made with the first row that is written to them.

Source: "Query Entities", "Insert Entity", "Update Entity" and "Performing entity group
transactions" of the Table service REST reference, version 2019-02-02; held by contract tests
against Azurite.
"""

import contextlib
import hashlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import orjson

from finetune_wandb.clients.http import Answer, error_for
from finetune_wandb.clients.storage.service import Storage, StorageService, made_first
from finetune_wandb.model.errors import (
    ConflictError,
    MissingError,
    RejectedError,
    UnavailableError,
)

log = logging.getLogger(__name__)

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
        self._service = StorageService(storage, "table", name, _HEADERS)
        self._name = name
        self._unread = storage.unread

    async def read(self, partition: str, row: str) -> dict[str, Any] | None:
        """Return a row as the service's JSON object, its etag as `odata.etag`; None for none."""
        with contextlib.suppress(MissingError):
            return await self._service.request("GET", self._name + _keys(partition, row), _row)
        return None

    async def query(
        self, where: str = "", *, columns: tuple[str, ...] = (), most: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows that an OData filter matches (all without one), by key.

        `most` ends the query early: no more than that many rows are returned.
        """
        asked = {"$filter": where, "$select": ",".join(columns)}
        if most is not None:
            asked["$top"] = str(min(most, 1000))
        found: list[dict[str, Any]] = []
        place: dict[str, str] = {}
        while True:
            query = {name: value for name, value in (asked | place).items() if value}
            path = f"{self._name}()?{urlencode(query, quote_via=quote, safe='$')}".rstrip("?")
            try:
                rows, place = await self._service.request("GET", path, _page)
            except MissingError:
                return found[:most]
            found += rows
            if not place or (most is not None and len(found) >= most):
                return found[:most]

    async def items[T](
        self,
        decode: Callable[[dict[str, Any]], T],
        where: str = "",
        *,
        columns: tuple[str, ...] = (),
        most: int | None = None,
    ) -> list[T]:
        """Return what is made of the rows that a query finds.

        A row that another version of the app wrote in a shape that this one cannot read does not
        hide the others: it is left out, and counted for the status answer.
        """
        found: list[T] = []
        rows = await self.query(where, columns=columns, most=most)
        for row in rows:
            try:
                found.append(decode(row))
            except Exception as error:  # whatever the other version's shape makes of it
                log.warning("table %s: a row cannot be read: %s", self._name, type(error).__name__)
        self._unread.pop((self._name, where), None)
        if lost := len(rows) - len(found):
            self._unread[self._name, where] = lost
        return found

    async def put(
        self,
        partition: str,
        row: str,
        columns: dict[str, Any],
        *,
        over: str | None = None,
        merge: bool = False,
    ) -> str:
        """Write a row and return its etag.

        `over` is the version that it replaces: an etag, `ANY`, or empty for a new row; a writer
        that does not find it gets a ConflictError. None: whatever is there, or nothing.
        With `merge`, other columns of the stored row stay as they are.
        """
        verb, path = "POST", self._name
        if over != "":
            verb = "PATCH" if merge else "PUT"
            path += _keys(partition, row)
        condition = {"If-Match": over} if over else {}
        body = orjson.dumps({"PartitionKey": partition, "RowKey": row, **columns})
        return await self._written(
            lambda: self._service.request(verb, path, _etag, headers=condition, body=body),
            is_new=not over,
        )

    async def write(self, writes: list[RowWrite]) -> list[str]:
        """Write rows of one partition together, all or none; return their etags in order.

        Raises ConflictError where another writer came first to one of them.
        """
        batch, changes = f"batch_{uuid.uuid4()}", f"changeset_{uuid.uuid4()}"
        kind = {"Content-Type": f"multipart/mixed; boundary={batch}"}
        target = f"{self._service.endpoint}/{self._name}"
        body = _batch(writes, target, batch, changes)
        etags = partial(_etags, count=len(writes), table=self._name)
        return await self._written(
            lambda: self._service.request("POST", "$batch", etags, headers=kind, body=body),
            is_new=any(not write.etag for write in writes),
        )

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; a no-op where there is none."""
        path = self._name + _keys(partition, row)
        with contextlib.suppress(MissingError):
            await self._service.request("DELETE", path, _etag, headers={"If-Match": ANY})

    async def _written[T](self, write: Callable[[], Awaitable[T]], *, is_new: bool) -> T:
        """Write; a table that may get its first row is made where it is not there."""
        name = orjson.dumps({"TableName": self._name})
        try:
            if not is_new:
                return await write()
            return await made_first(
                lambda: self._service.request("POST", "Tables", _etag, body=name), write
            )
        except MissingError as error:
            raise ConflictError("the row is gone", subject=self._name, code=error.code) from None


def table_key(text: str) -> str:
    """Return text as a table key: itself with `/` as `|`, or a hash where that cannot be."""
    plain = text.replace("/", "|")
    if _PLAIN.fullmatch(plain):
        return plain
    return "h-" + hashlib.sha256(text.encode()).hexdigest()[:40]


class Rows[T]:
    """A small table: keys to search by, and one JSON column with the rest, a `T`.

    What another release of the app wrote beside the fields of `T` is passed over.
    """

    def __init__(self, storage: Storage, name: str, kind: type[T]) -> None:
        self.table = Table(storage, name)
        self._name = name
        self._decoder = msgspec.json.Decoder(kind)

    def encode(self, data: T) -> str:
        """Return the column for what a row holds."""
        return msgspec.json.encode(data).decode()

    def decode(self, row: dict[str, Any]) -> T:
        """Return what a row holds. Raises whatever its shape makes of it."""
        return self._decoder.decode(row["data"])

    async def read(self, partition: str, row: str) -> tuple[T | None, str]:
        """Return what a row holds and its etag; None and an empty one where there is none.

        Raises RejectedError where this version of the app cannot read it.
        """
        found = await self.table.read(table_key(partition), table_key(row))
        if found is None:
            return None, ""
        try:
            return self.decode(found), found["odata.etag"]
        except Exception:  # whatever another version's shape makes of it
            raise RejectedError(
                f"a row of table {self._name} cannot be read by this version of the app",
                subject=row,
                code="row",
                remedy="deploy the version that wrote it, or a newer one",
            ) from None

    async def put(self, partition: str, row: str, data: T, *, over: str | None = None) -> str:
        """Write a row and return its etag; `over` is what it replaces, as in `Table.put`."""
        columns = {"data": self.encode(data)}
        return await self.table.put(table_key(partition), table_key(row), columns, over=over)

    async def delete(self, partition: str, row: str) -> None:
        """Remove a row; a no-op where there is none."""
        await self.table.delete(table_key(partition), table_key(row))

    async def rows(self, partition: str | None = None, *, most: int | None = None) -> list[T]:
        """Return what a partition's rows hold, or the whole table's, by key."""
        where = matching(table_key(partition)) if partition is not None else ""
        return await self.table.items(self.decode, where, columns=("data",), most=most)


def matching(partition: str, row: str | None = None) -> str:
    """Return the filter for a partition, or for one row of it."""
    where = f"PartitionKey eq '{quoted(partition)}'"
    return where if row is None else f"{where} and RowKey eq '{quoted(row)}'"


def quoted(text: str) -> str:
    """Return text as it stands between the quotes of a filter."""
    return text.replace("'", "''")


def _keys(partition: str, row: str) -> str:
    first, second = quote(quoted(partition), safe=""), quote(quoted(row), safe="")
    return f"(PartitionKey='{first}',RowKey='{second}')"


def _batch(writes: list[RowWrite], target: str, batch: str, changes: str) -> bytes:
    """Return a transaction's body."""
    parts = [f"--{batch}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n".encode()]
    for number, write in enumerate(writes):
        if write.etag:
            verb = "PATCH" if write.merge else "PUT"
            line = f"{verb} {target}{_keys(write.partition, write.row)}"
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
    if failed in (409, 412):
        raise ConflictError("another writer came first", subject=table, code=str(failed))
    if failed is not None:
        body = answer.body[answer.body.find(b"{") : answer.body.rfind(b"}") + 1]
        raise error_for(Answer(failed, answer.headers, body), _SERVICE, table)
    etags = [etag.decode() for etag in _ETAG.findall(answer.body)]
    if len(statuses) != count or len(etags) != count:
        raise UnavailableError(
            f"{_SERVICE} answered a transaction in part", subject=table, code="Batch"
        )
    return etags


def _etag(answer: Answer) -> str:
    return answer.headers.get("ETag", "")


def _row(answer: Answer) -> dict[str, Any]:
    row = answer.json()
    if not isinstance(row, dict) or "odata.etag" not in row:
        raise UnavailableError(f"{_SERVICE} answered no row", code="NotJson")
    return row


def _page(answer: Answer) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return rows, and the parameters that ask for the next page; none at the end."""
    try:
        rows: list[dict[str, Any]] = orjson.loads(answer.body)["value"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnavailableError(f"{_SERVICE} answered no rows", code="NotJson") from None
    places = {
        name: answer.headers.get(f"x-ms-continuation-{name.lower()}")
        for name in ("NextPartitionKey", "NextRowKey")
    }
    return rows, {name: value for name, value in places.items() if value}
