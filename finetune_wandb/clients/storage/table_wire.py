"""The table requests that many rows pass through, spoken directly: a query, a transaction.

Everything else goes through the official SDK. For a relay tick's two it was more than half of a tick's
CPU time: it builds and parses each transaction with Python's e-mail package and decodes every
property of every row (docs/performance.md, "Storage"). Here a transaction is joined bytes.

Source: "Performing entity group transactions" and "Query Entities" of the Table service REST
reference, version 2019-02-02; held by contract tests against Azurite and by the SDK's own bytes.
"""

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from finetune_wandb.clients.http import Answer, Http, error_for
from finetune_wandb.clients.storage.auth import StorageAuth
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.errors import AppError, MissingError, UnavailableError

_ACCEPT: Final = "application/json;odata=minimalmetadata"
_HEADERS: Final = {
    "DataServiceVersion": "3.0",
    "MaxDataServiceVersion": "3.0;NetFx",
    "Accept": _ACCEPT,
}
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_ETAG: Final = re.compile(rb"^ETag: *(.+?)\r?$", re.MULTILINE | re.IGNORECASE)
_PASSED: Final = frozenset({404, 409, 412})
"""Statuses of a row that somebody else wrote, made or removed first."""


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One row to write. `etag` is the version it replaces; empty for a row that must be new."""

    partition: str
    row: str
    body: bytes
    """The row as a JSON object, its keys included."""
    etag: str = ""
    merge: bool = False
    """Other columns of the row that it replaces stay as they are."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of an answer. `date` is the service's own time; `next` asks for the part behind it."""

    rows: list[dict[str, Any]]
    """The service's JSON objects: binary columns are base64, `odata.etag` is the version."""
    date: str
    next: str
    """Empty at the end."""


class TableWire:
    """Queries and transactions on one storage account's tables, over the shared session."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._auth = StorageAuth(storage, "table")
        self._http = Http(storage.transport, "Table storage")

    async def query(
        self, table: str, where: str = "", *, columns: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        """Return every row that an OData filter matches, as `pages` does."""
        return [
            row async for page in self.pages(table, where, columns=columns) for row in page.rows
        ]

    async def pages(
        self,
        table: str,
        where: str = "",
        *,
        columns: tuple[str, ...] = (),
        most: int | None = None,
    ) -> AsyncIterator[Page]:
        """Yield the rows that an OData filter matches (all without one), page by page.

        A page has up to `most` rows, 1,000 at most. A table that is not there yet has no rows:
        nothing was written to it.
        """
        parts = [f"$filter={quote(where, safe='')}"] if where else []
        if columns:
            parts.append(f"$select={quote(','.join(columns), safe='')}")
        if most is not None:
            parts.append(f"$top={most}")
        place = ""
        while True:
            query = "&".join(part for part in (*parts, place) if part)
            url, headers = await self._request("GET", f"{table}()", query)
            try:
                page = await self._http.request("GET", url, _page, headers=headers, subject=table)
            except MissingError:
                return
            yield page
            place = page.next
            if not place:
                return

    async def write(self, table: str, writes: list[RowWrite]) -> list[str] | None:
        """Write rows of one partition together; return their etags in order.

        None when a row was written, made or removed by somebody else first: then none is written.
        """
        await self._storage.table(table)
        batch, changes = f"batch_{uuid.uuid4()}", f"changeset_{uuid.uuid4()}"
        url, headers = await self._request("POST", "$batch", "")
        headers["Content-Type"] = f"multipart/mixed; boundary={batch}"
        target = f"{self._auth.endpoint}/{table}"
        return await self._http.request(
            "POST",
            url,
            lambda answer: _etags(answer, len(writes), table),
            headers=headers,
            body=_batch(writes, target, batch, changes),
            subject=table,
        )

    async def _request(self, method: str, path: str, query: str) -> tuple[str, dict[str, str]]:
        """Return the address and the headers of a request, with the storage's credential."""
        url = f"{self._auth.endpoint}/{path}{'?' if query else ''}{query}"
        return url, {**_HEADERS, **await self._auth.headers(method, url)}


def quoted(text: str) -> str:
    """Return text as it stands between the quotes of a filter."""
    return text.replace("'", "''")


def _batch(writes: list[RowWrite], target: str, batch: str, changes: str) -> bytes:
    """Return a transaction's body."""
    parts = [f"--{batch}\r\nContent-Type: multipart/mixed; boundary={changes}\r\n\r\n".encode()]
    for number, write in enumerate(writes):
        if write.etag:
            keys = f"PartitionKey='{quote(write.partition, safe='')}'"
            keys += f",RowKey='{quote(write.row, safe='')}'"
            verb = "PATCH" if write.merge else "PUT"
            line, condition = f"{verb} {target}({keys})", f"If-Match: {write.etag}"
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


def _etags(answer: Answer, count: int, table: str) -> list[str] | None:
    """Return the etags of a transaction's answer, None when it met another writer."""
    statuses = [int(status) for status in _STATUS.findall(answer.body)]
    failed = next((status for status in statuses if status >= 400), None)
    if failed in _PASSED:
        return None
    if failed is not None:
        raise _failure(failed, answer, table)
    etags = [etag.decode() for etag in _ETAG.findall(answer.body)]
    if len(statuses) != count or len(etags) != count:
        raise UnavailableError(
            "Table storage answered a transaction in part", subject=table, code="Batch"
        )
    return etags


def _failure(status: int, answer: Answer, table: str) -> AppError:
    """Return our error for a transaction that failed for another reason than another writer."""
    body = answer.body[answer.body.find(b"{") : answer.body.rfind(b"}") + 1]
    return error_for(Answer(status, answer.headers, body), "Table storage", table)


def _page(answer: Answer) -> Page:
    try:
        rows: list[dict[str, Any]] = orjson.loads(answer.body)["value"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnavailableError("Table storage answered no rows", code="NotJson") from None
    places = {
        "NextPartitionKey": answer.headers.get("x-ms-continuation-nextpartitionkey"),
        "NextRowKey": answer.headers.get("x-ms-continuation-nextrowkey"),
    }
    return Page(
        rows,
        answer.headers.get("Date", ""),
        "&".join(f"{name}={quote(value, safe='')}" for name, value in places.items() if value),
    )
