"""The files API: upload, list, describe, delete, the bytes of a file, and result files.

Whether a training file fits a job is decided when the job validates it. A result file has one
row a step; its columns, and what a step measured, come from the curve.
"""

import base64
import csv
import io
import os.path
from collections.abc import Container, Iterable
from typing import Any

import orjson
from aiohttp import web
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from dev.sandbox.http import Call
from dev.sandbox.openai.job_store import AccountJobs, Dialect, StoredFile, new_id
from dev.sandbox.openai.pages import Page
from dev.sandbox.openai.wire import (
    answer,
    answer_json,
    invalid,
    listing,
    missing,
    nothing,
    read_limit,
)

FILENAME = "results.csv"


def write(
    columns: dict[str, tuple[str, ...]],
    steps: Iterable[dict[str, Any]],
    minus_one: bool = False,
    signed: Container[str] = (),
) -> str:
    """Return the CSV text. A metric that a step did not measure is empty.

    With `minus_one` it is -1 instead, as some services write it, but not in the `signed`
    columns, where -1 could be a measurement.
    """
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(columns)
    gaps = ["-1" if minus_one and column not in signed else "" for column in columns]
    for step in steps:
        found = [_at(step, path) for path in columns.values()]
        out.writerow(
            [gap if value is None else value for value, gap in zip(found, gaps, strict=True)]
        )
    return text.getvalue()


def encode(text: str, encoding: str) -> bytes:
    """Return the file's bytes: the text itself, or for "base64" the base64 text of it."""
    raw = text.encode()
    return base64.b64encode(raw) if encoding == "base64" else raw


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(data, list):
            data = data[int(part)]
        elif isinstance(data, dict):
            data = data.get(part)
    return data


_PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "evals", "vision")
_LIST_LIMIT = 10_000


def upload(call: Call, account: AccountJobs, dialect: Dialect) -> web.Response:
    """Store the file of a multipart form with the fields `purpose` and `file`."""
    mimetype, options = parse_options_header(call.headers.get("Content-Type"))
    if mimetype != "multipart/form-data" or "boundary" not in options:
        raise invalid("The request must be multipart/form-data.")
    parser = FormDataParser(stream_factory=_in_memory, max_form_memory_size=None, silent=False)
    try:
        _, form, files = parser.parse(
            io.BytesIO(call.body), "multipart/form-data", len(call.body), options
        )
    except ValueError as error:
        raise invalid("The multipart body is malformed.") from error
    purpose = form.get("purpose")
    if purpose not in _PURPOSES:
        raise invalid(f"purpose: give one of {', '.join(_PURPOSES)}.", "purpose")
    part = files.get("file")
    if part is None:
        raise invalid("file: the form has no file.", "file")
    stored = StoredFile(
        id=new_id("file"),
        filename=os.path.basename(part.filename or "file"),
        purpose=purpose,
        content=part.stream.read(),
    )
    account.files[stored.id] = stored
    if dialect == "dated":
        return answer_json(stored.describe("pending"), 201)
    return answer_json(stored.describe())


def list_files(call: Call, account: AccountJobs) -> web.Response:
    """List files newest first; without a limit, practically all of them."""
    purpose, after = call.query.get("purpose"), call.query.get("after")
    found = [
        file
        for file in reversed(account.files.values())
        if purpose is None or file.purpose == purpose
    ]
    start = 0
    if after is not None:
        ids = [file.id for file in found]
        if after not in ids:
            raise missing("file", after)
        start = ids.index(after) + 1
    limit = read_limit(call, _LIST_LIMIT)
    shown = found[start : start + limit]
    page = Page(
        items=[orjson.dumps(file.describe()) for file in shown],
        has_more=start + limit < len(found),
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
    )
    return listing(page, with_ids=True)


def describe(account: AccountJobs, identifier: str) -> web.Response:
    return answer_json(_file(account, identifier).describe())


def content(account: AccountJobs, identifier: str) -> web.Response:
    file = _file(account, identifier)
    return answer(
        file.content,
        content_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{_header_safe(file.filename)}"'},
    )


def delete(account: AccountJobs, identifier: str, dialect: Dialect) -> web.Response:
    del account.files[_file(account, identifier).id]
    if dialect == "dated":
        return nothing()
    return answer_json({"id": identifier, "object": "file", "deleted": True})


def _file(account: AccountJobs, identifier: str) -> StoredFile:
    found = account.files.get(identifier)
    if found is None:
        raise missing("file", identifier)
    return found


def _header_safe(filename: str) -> str:
    return "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in filename
    )


def _in_memory(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> io.BytesIO:
    """Give the form parser a place for a part; it takes a temporary file by itself."""
    return io.BytesIO()
