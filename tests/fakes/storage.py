"""Storage in memory: tables of cursors, keys, accounts and problems, and the queues."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import AuditEntry, AuditPage, AuditQuery
from finetune_wandb.model.errors import AppError, ConflictError, RejectedError, UnavailableError
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.messages import Message
from finetune_wandb.model.relay.cursor import Cursor, JobSeen
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.model.work import Problem, SetAside, Work
from tests.fakes.gate import Gate, Open

if TYPE_CHECKING:
    from tests.fakes.world import World


class FakeCursors:
    """CursorsPort over a dictionary: versions, and only what survives JSON."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate: Gate = gate or Open()
        self.stored: dict[tuple[str, str], Cursor] = {}
        self.calls: list[str] = []
        self._version = 0

    async def read(self, account: str, jobs: Sequence[str]) -> dict[str, Cursor]:
        self.calls.append("read")
        await self.gate.before("read")
        return {
            job: _through_json(self.stored[account, job])
            for job in jobs
            if (account, job) in self.stored
        }

    async def save(self, cursors: Sequence[Cursor]) -> dict[str, AppError]:
        self.calls.append("save")
        await self.gate.before("save")
        lost: dict[str, AppError] = {}
        for cursor in cursors:
            place = cursor.account, cursor.job
            known = self.stored.get(place)
            if _compressed(cursor) > 1024 * 1024:
                lost[cursor.job] = RejectedError("too large", subject=cursor.job, code="cursor")
                continue
            if (known.etag if known else "") != cursor.etag:
                lost[cursor.job] = ConflictError("somebody was first", subject=cursor.job)
                continue
            self._version += 1
            # A writer whose answer is lost must not know its new version.
            self.stored[place] = replace(_through_json(cursor), etag=f'W/"{self._version}"')
        await self.gate.after("save")
        for cursor in cursors:
            if cursor.job not in lost:
                cursor.etag = self.stored[cursor.account, cursor.job].etag
        return lost

    async def seen(self, account: str, jobs: Sequence[str] | None = None) -> list[JobSeen]:
        self.calls.append("seen" if jobs is None else f"seen {' '.join(sorted(jobs))}")
        await self.gate.before("seen")
        return [
            JobSeen(
                *(cursor.job, cursor.relay_state, cursor.retry_at),
                *(cursor.status, cursor.run is not None),
            )
            for (owner, _), cursor in self.stored.items()
            if owner == account and (jobs is None or cursor.job in jobs)
        ]

    async def list_cursors(self, account: str | None = None) -> list[Cursor]:
        return [
            replace(cursor, state={}, outbox=b"")
            for (owner, _), cursor in self.stored.items()
            if account in (None, owner)
        ]


def _compressed(cursor: Cursor) -> int:
    parts = (orjson.dumps(cursor.state), cursor.outbox)
    size = sum(map(len, parts))
    return size if size < 1024 * 1024 else sum(len(zlib.compress(part, 1)) for part in parts)


def _through_json(cursor: Cursor) -> Cursor:
    data = orjson.loads(orjson.dumps({**asdict(cursor), "outbox": "", "run": None}))
    run = replace(cursor.run) if cursor.run else None
    state = RelayState(data["relay_state"])
    own = {"outbox": cursor.outbox, "run": run, "notes": tuple(data["notes"]), "relay_state": state}
    return Cursor(**{**data, **own})


@dataclass
class FakeKeyTable:
    world: World

    async def read(self, secret: SecretRef) -> KeyRecord | None:
        self.world.called("read key record")
        return self.world.records.get(secret)

    async def write(self, record: KeyRecord) -> KeyRecord:
        self.world.called("store key record")
        stored = self.world.records.get(record.secret)
        if (stored.etag if stored else "") != record.etag:
            raise ConflictError("another writer came first", subject=str(record.secret))
        written = replace(record, etag=f"{int(record.etag or 0) + 1}")
        self.world.records[record.secret] = written
        return written

    async def list_all(self) -> list[KeyRecord]:
        self.world.called("list key records")
        return list(self.world.records.values())


@dataclass
class FakeAccountTable:
    """AccountStore over the world's entries; merges as the table does."""

    world: World

    async def read(self, account: AccountId) -> AccountReport | None:
        return self.world.entries.get(account.key)

    async def list_all(self) -> list[AccountReport]:
        return list(self.world.entries.values())

    async def list_for_relay(self) -> list[RelayAccount]:
        return [
            RelayAccount(
                id=entry.id,
                name=entry.id.name,
                endpoint=entry.endpoint,
                region=entry.region,
                subscription=entry.id.subscription,
                entity=entry.entity,
                project=entry.project,
                secret=entry.secret,
                native_seen=entry.native_seen,
                observed=entry.mode == "observe",
            )
            for entry in self.world.entries.values()
            if entry.in_scope and not entry.deleted and entry.endpoint and entry.project
            if entry.secret
        ]

    async def find_for_relay(self, account: AccountId) -> RelayAccount | None:
        found = [one for one in await self.list_for_relay() if one.key == account.key]
        return found[0] if found else None

    async def mark_native_seen(self, account: AccountId) -> None:
        if known := self.world.entries.get(account.key):
            self.world.entries[account.key] = replace(known, native_seen=True)

    async def write(self, report: AccountReport) -> None:
        known = self.world.entries.get(report.key)
        if report.deleted:
            if known:
                self.world.entries[report.key] = replace(
                    known,
                    deleted=True,
                    in_scope=False,
                    healthy=False,
                    native_seen=False,
                    checked_at=report.checked_at,
                )
            return
        told = report.told
        kept = known or AccountReport(
            id=report.id, checked_at=report.checked_at, mode=report.mode, findings=()
        )
        if told is None:
            told = kept.told
        if report.readable:
            self.world.entries[report.key] = replace(
                report, told=told, native_seen=kept.native_seen
            )
            return
        self.world.entries[report.key] = replace(
            kept,
            mode=report.mode,
            findings=report.findings,
            settled=report.settled,
            retry_after_s=report.retry_after_s,
            checked_at=report.checked_at,
            healthy=kept.healthy and not report.settled,
            told=told,
        )


class FakeQueue:
    """WorkPort over a list of what travels as JSON."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.queues: list[str] = []
        """Which queue each message went to."""
        self.delays: list[float] = []
        self.poison: list[tuple[str, bytes]] = []
        self.full = False

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise ConflictError("the queue is gone", subject="queue")
        for message in messages:
            self.sent.append(orjson.loads(message.to_json()))
            self.queues.append(message.queue)
            self.delays.append(delay_s)

    async def put(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        if self.full:
            raise ConflictError("the queue is gone", subject="queue")
        self.sent.append(orjson.loads(body))
        self.queues.append(queue)
        self.delays.append(delay_s)

    async def poisoned(self) -> AsyncIterator[SetAside]:
        for queue, body in list(self.poison):

            async def remove(one: tuple[str, bytes] = (queue, body)) -> None:
                self.poison.remove(one)

            yield SetAside(queue, body, remove)


class FakeWork:
    """WorkTable over dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, Work] = {}
        self.aside: dict[str, Work] = {}
        self.writes = 0

    def _put(self, work: Work) -> None:
        self.writes += 1
        self.rows[work.key] = replace(work, etag=str(self.writes))

    async def read(self, work: Work) -> Work | None:
        return self.rows.get(work.key)

    async def claim(self, work: Work) -> None:
        known = self.rows.get(work.key)
        if (known.etag if known else "") != work.etag:
            raise ConflictError("another writer came first", subject="work")
        self._put(work)

    async def write(self, work: Work) -> None:
        self._put(work)

    async def remove(self, work: Work) -> None:
        self.rows.pop(work.key, None)

    async def list_open(self) -> list[Work]:
        return [replace(work, etag="") for work in self.rows.values()]

    async def set_aside(self, work: Work) -> None:
        self.aside[work.key] = work
        self.rows.pop(work.key, None)

    async def is_aside(self, work: Work) -> bool:
        return work.key in self.aside

    async def list_aside(self) -> list[Work]:
        return list(self.aside.values())

    async def forget_aside(self, work: Work) -> None:
        self.aside.pop(work.key, None)


class FakeProblems:
    """ProblemTable over a dictionary: the same problem again is counted."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, str, str], Problem] = {}
        self.writes = 0
        self.fails = False

    @property
    def known(self) -> dict[tuple[str, str, str], int]:
        """How often each problem came, by source, subject and cause."""
        return {place: problem.count for place, problem in self.noted.items()}

    @property
    def remedies(self) -> list[str]:
        return [problem.remedy for problem in self.noted.values()]

    async def note(self, problem: Problem) -> bool:
        await asyncio.sleep(0)
        if self.fails:
            raise UnavailableError("storage is away")
        self.writes += 1
        known = self.noted.get(place := _place(problem))
        count = problem.count + (known.count if known else 0)
        self.noted[place] = replace(problem, count=count)
        return known is None

    async def clear(self, problem: Problem) -> None:
        self.noted.pop(_place(problem), None)

    async def list_all(self) -> list[Problem]:
        return list(self.noted.values())


def _place(problem: Problem) -> tuple[str, str, str]:
    return str(problem.source), problem.subject, problem.cause


@dataclass
class FakeAudit:
    """AuditPort in memory; pages go by place in the list, newest first."""

    entries: list[AuditEntry] = field(default_factory=list)

    async def write(self, entry: AuditEntry) -> None:
        begun = replace(entry, outcome="begun", code="")
        self.entries = [
            one for one in self.entries if replace(one, outcome="begun", code="") != begun
        ] + [entry]

    async def list(self, query: AuditQuery) -> AuditPage:
        after = float(query.after) if query.after.replace(".", "").isdecimal() else float("inf")
        found = [
            one
            for one in sorted(self.entries, key=lambda one: one.at, reverse=True)
            if (not query.action or one.action == query.action)
            and (not query.subject or one.subject.lower() == query.subject.lower())
            and (query.since is None or one.at >= query.since)
            and (query.until is None or one.at <= query.until)
            and one.at.timestamp() < after
        ]
        shown = found[: query.limit]
        following = str(shown[-1].at.timestamp()) if len(found) > len(shown) else ""
        return AuditPage(tuple(shown), following)

    async def purge(self, before: datetime) -> int:
        kept = [one for one in self.entries if one.at >= before]
        removed, self.entries = len(self.entries) - len(kept), kept
        return removed
