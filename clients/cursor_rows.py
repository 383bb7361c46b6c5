"""A cursor as a row of table `jobs`, and back.

Only what is searched by is a column of its own; the rest of what people see is one JSON column,
and what only the relay reads is compressed into binary ones.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import orjson

from clients.json_rows import table_key
from model.cursor import Cursor, RunPath

CHUNK: Final = 60_000
"""A binary column holds 64 KiB."""
SHOWN: Final = ("PartitionKey", "job", "relay_state", "retry_at", "run", "info")
_OWN: Final = {
    "account",
    "job",
    "etag",
    "relay_state",
    "retry_at",
    "run",
    "curve",
    "state",
    "outbox",
}
_INFO: Final = [item.name for item in fields(Cursor) if item.name not in _OWN]


def partition(account: str) -> str:
    """Return an account's partition key. An ARM id holds no quotes, and table keys no slash."""
    return account.lower().replace("/", "|")


def row_of(cursor: Cursor) -> bytes:
    """Return the cursor's row as the JSON that the Table service takes."""
    row: dict[str, Any] = {
        "PartitionKey": partition(cursor.account),
        "RowKey": table_key(cursor.job),
        "job": cursor.job,
        "relay_state": cursor.relay_state,
        "retry_at": float(cursor.retry_at),
        "run": str(cursor.run) if cursor.run else "",
        "info": orjson.dumps({name: getattr(cursor, name) for name in _INFO}).decode(),
        "curve": orjson.dumps(cursor.curve).decode(),
    }
    _put(row, "state", zlib.compress(orjson.dumps(cursor.state), 1))
    if cursor.outbox:
        _put(row, "outbox", zlib.compress(cursor.outbox, 1))
    return orjson.dumps(row)


def cursor_of(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    """Return the cursor that a row was made from; columns that were not asked for stay empty."""
    info = orjson.loads(row["info"])
    # Another release of the app may have written other fields.
    known = {name: info[name] for name in _INFO if name in info}
    cursor = Cursor(account, row["job"], **known)
    cursor.etag = etag
    cursor.relay_state = row["relay_state"]
    cursor.retry_at = float(row["retry_at"])
    cursor.notes = tuple(cursor.notes)
    if row["run"]:
        cursor.run = RunPath(*row["run"].split("/", 2))
    if curve := row.get("curve"):
        cursor.curve = orjson.loads(curve)
    if state := _joined(row, "state"):
        cursor.state = orjson.loads(zlib.decompress(state))
    if outbox := _joined(row, "outbox"):
        cursor.outbox = zlib.decompress(outbox)
    return cursor


def _put(row: dict[str, Any], name: str, data: bytes) -> None:
    for place, start in enumerate(range(0, len(data), CHUNK)):
        row[f"{name}{place}"] = base64.b64encode(data[start : start + CHUNK]).decode()
        row[f"{name}{place}@odata.type"] = "Edm.Binary"


def _joined(row: Mapping[str, Any], name: str) -> bytes:
    parts: list[bytes] = []
    while (part := row.get(f"{name}{len(parts)}")) is not None:
        parts.append(base64.b64decode(part))
    return b"".join(parts)
