"""Table `work`: messages that were begun and did not end, and those that were set aside."""

import base64
import zlib
from dataclasses import asdict, replace
from typing import Any, Final

import msgspec

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import JsonRow, JsonRows
from finetune_wandb.model.work import Work

TABLE: Final = "work"
_OPEN: Final = "open"
_ASIDE: Final = "aside"
_LONGEST: Final = 28_000
"""Characters that a body may take; a text column holds 32 Ki of them. All of ours are far shorter:
only what another sender put on a queue can be cut."""


class WorkTable:
    """Messages that were begun and did not end, and those that were set aside."""

    def __init__(self, storage: Storage) -> None:
        self._rows = JsonRows(storage, TABLE)

    async def read(self, work: Work) -> Work | None:
        row = await self._rows.read(_OPEN, work.key)
        return replace(_work(row.data), etag=row.etag) if row else None

    async def claim(self, work: Work) -> None:
        """Write a row over the version that was read, or a new one. Raises ConflictError."""
        known = JsonRow({}, work.etag) if work.etag else None
        await self._rows.write(_OPEN, work.key, _data(work), known)

    async def write(self, work: Work) -> None:
        """Write a row, whatever was there."""
        await self._rows.put(_OPEN, work.key, _data(work))

    async def remove(self, work: Work) -> None:
        await self._rows.delete(_OPEN, work.key)

    async def list_open(self) -> list[Work]:
        """Return what was begun and did not end, or ended after a crash."""
        return [_work(row) async for row in self._rows.rows(_OPEN)]

    async def set_aside(self, work: Work) -> None:
        """Keep a message with its cause until it is put back."""
        await self._rows.put(_ASIDE, work.key, _data(work))
        await self._rows.delete(_OPEN, work.key)

    async def is_aside(self, work: Work) -> bool:
        return await self._rows.read(_ASIDE, work.key) is not None

    async def list_aside(self) -> list[Work]:
        return [_work(row) async for row in self._rows.rows(_ASIDE)]

    async def forget_aside(self, work: Work) -> None:
        await self._rows.delete(_ASIDE, work.key)


def _data(work: Work) -> dict[str, Any]:
    text = base64.b85encode(zlib.compress(work.body)).decode()
    if len(text) > _LONGEST:
        text = base64.b85encode(zlib.compress(work.body[: _LONGEST // 2])).decode()
    return asdict(work) | {"body": text}


def _work(data: dict[str, Any]) -> Work:
    body = zlib.decompress(base64.b85decode(data["body"]))
    return replace(msgspec.convert(data | {"body": ""}, Work), body=body)
