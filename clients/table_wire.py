"""The two table requests of every relay tick, spoken directly: one query, one transaction.

Everything else goes through the official SDK. For these two it was more than half of a tick's
CPU time: it builds and parses each transaction with Python's e-mail package and decodes every
property of every row (docs/performance.md, "Storage"). Here a transaction is joined bytes.

Source: "Performing entity group transactions" and "Query Entities" of the Table service REST
reference, version 2019-02-02; held by contract tests against Azurite and by the SDK's own bytes.
"""

import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import orjson

from clients.http import Answer, Http, error_for
from clients.storage import Storage
from model.errors import AppError, UnavailableError

_SCOPE: Final = "https://storage.azure.com/.default"
_ACCEPT: Final = "application/json;odata=minimalmetadata"
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_ETAG: Final = re.compile(rb"^ETag: *(.+?)\r?$", re.MULTILINE | re.IGNORECASE)
_SAS_LIFE: Final = timedelta(hours=12)
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


class TableWire:
    """Queries and transactions on one storage account's tables, over the shared session."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._address = storage.address
        self._transport = storage.transport
        self._http = Http(storage.transport, "Table storage")
        self._endpoint = storage.address.table_url.rstrip("/")
        self._sas: tuple[str, float] = ("", 0.0)

    async def query(
        self, table: str, where: str, *, columns: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows that an OData filter matches, as the service's JSON objects.

        Binary columns are base64 text; `odata.etag` has the row's version.
        """
        await self._storage.table(table)
        rows: list[dict[str, Any]] = []
        query = f"$filter={quote(where, safe='')}"
        if columns:
            query += f"&$select={quote(','.join(columns), safe='')}"
        page = ""
        while True:
            url, headers = await self._request(f"{table}()", f"{query}{page}")
            found, next_page = await self._http.request(
                "GET", url, _rows, headers=headers, subject=table
            )
            rows += found
            if not next_page:
                return rows
            page = next_page

    async def write(self, table: str, writes: list[RowWrite]) -> list[str] | None:
        """Write rows of one partition together; return their etags in order.

        None when a row was written, made or removed by somebody else first: then none is written.
        """
        await self._storage.table(table)
        batch, changes = f"batch_{uuid.uuid4()}", f"changeset_{uuid.uuid4()}"
        url, headers = await self._request("$batch", "")
        headers["Content-Type"] = f"multipart/mixed; boundary={batch}"
        target = f"{self._endpoint}/{table}"
        return await self._http.request(
            "POST",
            url,
            lambda answer: _etags(answer, len(writes), table),
            headers=headers,
            body=_batch(writes, target, batch, changes),
            subject=table,
        )

    async def _request(self, path: str, query: str) -> tuple[str, dict[str, str]]:
        """Return the address and the headers of a request, with the storage's credential."""
        headers = {
            "x-ms-version": "2019-02-02",
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
            "Accept": _ACCEPT,
        }
        if self._address.connection_string:
            query = "&".join(part for part in (query, self._signature()) if part)
        else:
            headers["Authorization"] = f"Bearer {await self._transport.token(_SCOPE)}"
            headers["x-ms-date"] = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return f"{self._endpoint}/{path}{'?' if query else ''}{query}", headers

    def _signature(self) -> str:
        """Return a shared access signature for the account of a connection string."""
        signature, until = self._sas
        if time.time() < until:
            return signature
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.data.tables import (
            AccountSasPermissions,
            ResourceTypes,
            generate_account_sas,
        )

        parts = dict(
            part.split("=", 1) for part in self._address.connection_string.split(";") if "=" in part
        )
        name = parts["AccountName"]
        self._endpoint = parts.get("TableEndpoint") or (
            f"{parts.get('DefaultEndpointsProtocol', 'https')}://{name}.table."
            f"{parts.get('EndpointSuffix', 'core.windows.net')}"
        )
        self._endpoint = self._endpoint.rstrip("/")
        signature = generate_account_sas(
            AzureNamedKeyCredential(name, parts["AccountKey"]),
            ResourceTypes.from_string("sco"),
            AccountSasPermissions(
                read=True, write=True, delete=True, list=True, add=True, update=True
            ),
            datetime.now(UTC) + _SAS_LIFE,
            protocol="https,http",
        )
        self._sas = (signature, time.time() + _SAS_LIFE.total_seconds() / 2)
        return signature


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


def _rows(answer: Answer) -> tuple[list[dict[str, Any]], str]:
    """Return a page's rows, and the query that continues behind it, empty at the end."""
    try:
        rows: list[dict[str, Any]] = orjson.loads(answer.body)["value"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnavailableError("Table storage answered no rows", code="NotJson") from None
    pages = {
        "NextPartitionKey": answer.headers.get("x-ms-continuation-nextpartitionkey"),
        "NextRowKey": answer.headers.get("x-ms-continuation-nextrowkey"),
    }
    return rows, "".join(
        f"&{name}={quote(value, safe='')}" for name, value in pages.items() if value
    )
