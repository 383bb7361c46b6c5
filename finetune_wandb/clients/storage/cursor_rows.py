"""A cursor as a row of table `jobs`, and back.

Only what is searched by is a column of its own; the rest of what people see is one JSON column,
and what only the relay reads is compressed into binary ones.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from finetune_wandb.clients.storage.tables import table_key
from finetune_wandb.model.cursor import Cursor, RunPath, Stored
from finetune_wandb.model.relay_state import RelayState

CHUNK: Final = 60_000
"""A binary column holds 64 KiB."""
_SMALL: Final = 8000
"""Bytes that are stored as they are."""
_COMPRESSED: Final = b"\x78"
_MOST_TEXT: Final = 32_000
"""Characters of a text column: 64 KiB of UTF-16."""
_LONG: Final = 1000
"""Characters that each text keeps where all of them together are too many."""
SHOWN: Final = ("PartitionKey", "job", "relay_state", "status", "retry_at", "run", "info")
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
}
_INFO: Final = [item.name for item in fields(Cursor) if item.name not in _OWN]


def partition(account: str) -> str:
    """Return an account's partition key. An ARM id holds no quotes, and table keys no slash."""
    return account.lower().replace("/", "|")


@dataclass(frozen=True, slots=True)
class Change:
    """What the Table service has to be told of a cursor."""

    body: bytes
    """The row as JSON, its keys included."""
    merge: bool
    """The row has only columns that differ from the stored ones."""
    stored: Stored
    """What the table holds once this is written."""


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
            # Columns cannot be taken away by a merge; empty ones are none.
            _put(row, "outbox", [b""] * len(_parts(known.outbox)))
        if not cursor.outbox or cursor.outbox == known.outbox:
            return Change(orjson.dumps(row), True, stored)
    row["curve"] = curve.decode()
    _put(row, "state", _parts(state))
    _put(row, "outbox", _parts(cursor.outbox))
    return Change(orjson.dumps(row), False, stored)


def cursor_of(account: str, row: Mapping[str, Any], etag: str) -> Cursor:
    """Return the cursor that a row was made from; columns that were not asked for stay empty."""
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
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


def _put(row: dict[str, Any], name: str, parts: list[bytes]) -> None:
    for place, part in enumerate(parts):
        row[f"{name}{place}"] = base64.b64encode(part).decode()
        row[f"{name}{place}@odata.type"] = "Edm.Binary"


def _joined(row: Mapping[str, Any], name: str) -> bytes:
    parts: list[bytes] = []
    # What stands behind an empty column is left over: another zlib may make more parts of the same
    # bytes than the one that counted them.
    while part := row.get(f"{name}{len(parts)}"):
        parts.append(base64.b64decode(part))
    data = b"".join(parts)
    # JSON as it is, or compressed, which no JSON begins like.
    return zlib.decompress(data) if data[:1] == _COMPRESSED else data
