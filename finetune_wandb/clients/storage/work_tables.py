"""What is under way and what went wrong: tables `work`, `problems` and `resyncs`."""

import base64
import contextlib
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import msgspec
import orjson

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import ANY, Rows, matching, table_key
from finetune_wandb.model.errors import ConflictError, RejectedError
from finetune_wandb.model.resync import Resync, ResyncItem
from finetune_wandb.model.work import Problem, Source, Work

_OPEN: Final = "open"
_ASIDE: Final = "aside"
_LONGEST_BODY: Final = 28_000
"""Characters that a body may take; a text column holds 32 Ki of them. All of ours are far shorter:
only what another sender put on a queue can be cut."""
_KEEP_PROBLEMS_S: Final = 7 * 86400.0
_TRIES: Final = 8
_HEAD: Final = "-head"
_RUNNING: Final = "-running"
_LONGEST_RESULTS: Final = 30_000
"""Characters that an item's results may take."""


class _WorkRows(Rows[Work]):
    """Rows of messages, their bodies compressed."""

    def encode(self, data: Work) -> str:
        text = base64.b85encode(zlib.compress(data.body)).decode()
        if len(text) > _LONGEST_BODY:
            text = base64.b85encode(zlib.compress(data.body[: _LONGEST_BODY // 2])).decode()
        return orjson.dumps(asdict(data) | {"body": text}).decode()

    def decode(self, row: dict[str, Any]) -> Work:
        data = orjson.loads(row["data"])
        body = zlib.decompress(base64.b85decode(data["body"]))
        return replace(msgspec.convert(data | {"body": ""}, Work), body=body)


class WorkTable:
    """Messages that were begun and did not end, and those that were set aside."""

    def __init__(self, storage: Storage) -> None:
        self._rows = _WorkRows(storage, "work", Work)

    async def read(self, work: Work) -> Work | None:
        """Return a message's row; one that cannot be read keeps nobody from the work."""
        try:
            known, etag = await self._rows.read(_OPEN, work.key)
        except RejectedError:
            return None
        return replace(known, etag=etag) if known else None

    async def claim(self, work: Work) -> None:
        """Write a row over the version that was read, or a new one. Raises ConflictError."""
        await self._rows.put(_OPEN, work.key, work, over=work.etag)

    async def write(self, work: Work) -> None:
        """Write a row, whatever was there."""
        await self._rows.put(_OPEN, work.key, work)

    async def remove(self, work: Work) -> None:
        await self._rows.delete(_OPEN, work.key)

    async def list_open(self) -> list[Work]:
        """Return what was begun and did not end, or ended after a crash."""
        return await self._rows.rows(_OPEN)

    async def set_aside(self, work: Work) -> None:
        """Keep a message with its cause until it is put back."""
        await self._rows.put(_ASIDE, work.key, work)
        await self._rows.delete(_OPEN, work.key)

    async def is_aside(self, work: Work) -> bool:
        return (await self._rows.read(_ASIDE, work.key))[0] is not None

    async def list_aside(self) -> list[Work]:
        return await self._rows.rows(_ASIDE)

    async def forget_aside(self, work: Work) -> None:
        await self._rows.delete(_ASIDE, work.key)


class ProblemTable:
    """The same problem again is counted, not repeated."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives unix seconds."""
        self._rows = Rows(storage, "problems", Problem)
        self._unread = storage.unread
        self._clock = clock

    async def note(self, problem: Problem) -> bool:
        """Record a problem that came `count` times more; say whether it is a new one.

        Raises ConflictError when other processes keep on writing the same one first.
        """
        for _ in range(_TRIES):
            now = self._clock()
            try:
                known, etag = await self._rows.read(*_place(problem))
            except RejectedError:
                known, etag = None, ANY  # what another version noted of it is written over
            if known and now - known.last_at > _KEEP_PROBLEMS_S:
                known = None
            noted = replace(
                problem,
                first_at=known.first_at if known else now,
                last_at=now,
                count=problem.count + (known.count if known else 0),
            )
            with contextlib.suppress(ConflictError):
                await self._rows.put(*_place(problem), noted, over=etag)
                return known is None
        raise ConflictError("the problem is being counted elsewhere", subject=problem.subject)

    async def clear(self, problem: Problem) -> None:
        await self._rows.delete(*_place(problem))

    async def purge(self) -> None:
        """Remove the problems that did not come in the last seven days."""
        since = self._clock() - _KEEP_PROBLEMS_S
        for problem in await self._rows.rows():
            if problem.last_at < since:
                await self.clear(problem)

    async def list_all(self) -> list[Problem]:
        """Return the problems of the last seven days, the latest first.

        Tables with rows that this process could not read are problems, too.
        """
        now = self._clock()
        since = now - _KEEP_PROBLEMS_S
        found = [problem for problem in await self._rows.rows() if problem.last_at >= since]
        unread: dict[str, int] = {}
        for (table, _), count in self._unread.items():
            unread[table] = max(count, unread.get(table, 0))  # queries may meet the same rows
        found += [
            Problem(
                source=Source.RELAY_TIMER,
                subject=f"table {table}",
                cause="rows cannot be read by this version of the app, and were left out",
                remedy="deploy the version that wrote them, or a newer one",
                first_at=now,
                last_at=now,
                count=count,
            )
            for table, count in unread.items()
        ]
        return sorted(found, key=lambda problem: problem.last_at, reverse=True)


def _place(problem: Problem) -> tuple[str, str]:
    return problem.source, f"{problem.subject} {problem.cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latest:
    """Which re-sync is the latest of its kind of request. Times are unix seconds."""

    id: str
    created_at: float
    fingerprint: str


class ResyncTable:
    """One partition a re-sync: its head and one row an item.

    Progress is counted from the items, never kept as a number: a message that is worked on twice
    writes the same row twice. One more row for each kind of request names its latest re-sync.
    """

    def __init__(self, storage: Storage) -> None:
        self._heads = Rows(storage, "resyncs", Resync)
        self._items = Rows(storage, "resyncs", ResyncItem)
        self._latest = Rows(storage, "resyncs", _Latest)

    async def write(self, resync: Resync) -> None:
        await self._heads.put(resync.id, _HEAD, resync)

    async def read(self, resync_id: str) -> tuple[Resync, list[ResyncItem]] | None:
        """Return a re-sync and its items by name, or None."""
        where = matching(table_key(resync_id))
        found = await self._heads.table.query(where, columns=("RowKey", "data"))
        rows = {row["RowKey"]: row["data"] for row in found}
        if (head := rows.pop(_HEAD, None)) is None:
            return None
        items = [msgspec.json.decode(data, type=ResyncItem) for data in rows.values()]
        return msgspec.json.decode(head, type=Resync), sorted(items, key=lambda item: item.name)

    async def read_head(self, resync_id: str) -> Resync | None:
        """Return what was asked for, without the items."""
        return (await self._heads.read(resync_id, _HEAD))[0]

    async def remove(self, resync_id: str) -> None:
        """Forget a re-sync with all its items."""
        table, partition = self._items.table, table_key(resync_id)
        rows = await table.query(matching(partition), columns=("RowKey",))
        # The head last: after a crash it is met again.
        for row in sorted((row["RowKey"] for row in rows), key=_HEAD.__eq__):
            await table.delete(partition, row)

    async def read_item(self, resync_id: str, name: str) -> ResyncItem | None:
        return (await self._items.read(resync_id, name))[0]

    async def add_item(self, resync_id: str, item: ResyncItem) -> None:
        """Add an item; one that is there already keeps its progress."""
        with contextlib.suppress(ConflictError):
            await self._items.put(resync_id, item.name, _fitting(item), over="")

    async def write_item(self, resync_id: str, item: ResyncItem) -> None:
        await self._items.put(resync_id, item.name, _fitting(item))

    async def remove_item(self, resync_id: str, name: str) -> None:
        await self._items.delete(resync_id, name)

    async def running(self, fingerprint: str) -> str:
        """Return the id of the latest re-sync of this request, empty for none."""
        known, _ = await self._latest.read(_RUNNING, fingerprint)
        return known.id if known else ""

    async def claim(self, fingerprint: str, resync: Resync, *, instead_of: str) -> str:
        """Make a re-sync the latest of its request and remove its predecessor, unless another
        one became the latest meanwhile. Return the id of the latest one."""
        known, etag = await self._latest.read(_RUNNING, fingerprint)
        latest = known.id if known else ""
        if latest != instead_of:
            return latest
        row = _Latest(id=resync.id, created_at=resync.created_at, fingerprint=fingerprint)
        try:
            await self._latest.put(_RUNNING, fingerprint, row, over=etag)
        except ConflictError:
            return await self.running(fingerprint)
        if instead_of:
            await self.remove(instead_of)
        return resync.id

    async def latest(self) -> list[tuple[str, float]]:
        """Return id and time of the latest re-sync of each request, newest first."""
        found = [(row.id, row.created_at) for row in await self._latest.rows(_RUNNING)]
        return sorted(found, key=lambda pair: pair[1], reverse=True)

    async def purge(self, before: float) -> None:
        """Remove the re-syncs that were requested before this time (unix seconds)."""
        for row in await self._latest.rows(_RUNNING):
            if row.created_at < before:
                await self.remove(row.id)
                await self._latest.delete(_RUNNING, row.fingerprint)


def _fitting(item: ResyncItem) -> ResyncItem:
    """Return the item with as many of its results as a text column holds."""
    results = item.results
    while results and len(orjson.dumps(results)) > _LONGEST_RESULTS:
        results = results[:-1]
    return replace(item, results=results)
