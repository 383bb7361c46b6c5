"""Finds the jobs that have work, and sends them in messages: one listing an account, and nothing
for finished history.

Jobs that are known to be complete are remembered in the process, so an idle tick costs one call
to the fine-tuning API for each account and no storage. What was sent and did not end is sent again
from here: a crash costs two minutes, not a queue's lease.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import orjson

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, RejectedError, UnavailableError
from finetune_wandb.model.messages import BackfillMessage, RelayMessage
from finetune_wandb.model.relay.cursor import JobSeen
from finetune_wandb.model.relay.job import TERMINAL, as_number, is_job_id, reduce_job
from finetune_wandb.model.relay.ports import CursorsPort, JobsPort, Listing, WorkPort
from finetune_wandb.model.relay.state import CLOSED, RelayState
from finetune_wandb.relay.ports import JOBS_PER_MESSAGE, unexpected

PAGE: Final = 100
_AT_ONCE: Final = 32
_MOST_PAGES: Final = 10_000
_PAGE_S: Final = 25.0
"""One tick waits for the end of the last: an account that hangs must not hold the others' next."""
_REMEMBER_S: Final = 3600.0
"""A person can have a complete job started over through another process of the app."""
_AGAIN_S: Final = 110.0
"""An ended job that was sent this recently is not sent again: it may wait in the queue still."""
_MESSAGE_BYTES: Final = 40_000
"""A queue message holds 64 KiB after base64."""
_MOST_ASKED: Final = 140
"""More jobs than this are asked for by reading all of the account's rows."""


@dataclass(slots=True)
class Found:
    """What one tick found."""

    accounts: int = 0
    jobs: int = 0
    messages: int = 0
    failures: dict[str, AppError] = field(default_factory=dict)
    """By account: why its jobs could not be listed."""
    oddities: dict[str, AppError] = field(default_factory=dict)
    """By account: what of its list could not be used."""
    recovered: list[tuple[str, str]] = field(default_factory=list)
    """(account, cause) of problems of the last tick that did not come again."""


@dataclass(slots=True)
class _Known:
    """What the process remembers of one account's jobs."""

    since: float
    open: set[str]
    """Jobs that may still change."""
    complete: set[str] = field(default_factory=set)
    """Jobs that need no pass until someone asks for one."""
    idle: bytes = b""
    """Digest of the first page of a listing all of whose jobs were complete."""
    sent: dict[str, float] = field(default_factory=dict)
    """When an ended job was sent last (unix seconds)."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One tick's look at one account."""

    account: RelayAccount
    known: _Known
    found: Found
    now: float

    def messages(
        self, listed: Iterable[dict[str, Any]], kind: type[RelayMessage], trigger: str = "timer"
    ) -> list[RelayMessage]:
        jobs = due_jobs(listed)
        return job_messages(self.account, jobs, kind, sent_at=self.now, trigger=trigger)

    def named(self, jobs: Iterable[str], trigger: str) -> list[RelayMessage]:
        return self.messages(({"id": job} for job in sorted(jobs)), RelayMessage, trigger)


class Finder:
    """One per process."""

    def __init__(
        self,
        jobs: JobsPort,
        cursors: CursorsPort,
        work: WorkPort,
        *,
        skip_native: bool = True,
        page_s: float = _PAGE_S,
    ) -> None:
        """A page of a listing has `page_s` seconds."""
        self._jobs, self._cursors, self._work = jobs, cursors, work
        self._closed = closed_states(skip_native=skip_native)
        self._skip_native = skip_native
        self._page_s = page_s
        self._known: dict[str, _Known] = {}
        self.failing: set[tuple[str, str]] | None = None
        """(account, cause) of the last tick's problems; None until the first tick is given those
        that an earlier process noted."""

    async def tick(self, accounts: Sequence[RelayAccount], *, clock: Callable[[], float]) -> Found:
        """List every account's jobs, at most so many at once, and send what has work."""
        found = Found(accounts=len(accounts))
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(account: RelayAccount) -> None:
            async with limit:
                try:
                    await self._tick_account(account, found, clock())
                except AppError as error:
                    found.failures[account.key] = error
                except Exception as error:
                    found.failures[account.key] = unexpected(error, "listing jobs", account.key)

        await asyncio.gather(*(one(account) for account in accounts))
        problems = (*found.failures.items(), *found.oddities.items())
        failing = {(account, error.message) for account, error in problems}
        found.recovered = sorted((self.failing or set()) - failing)
        self.failing = failing
        return found

    async def _tick_account(self, account: RelayAccount, found: Found, now: float) -> None:
        known, stored = self._known.get(account.key), None
        if known is None or now - known.since > _REMEMBER_S:
            # The first look reads the whole account; its history is not read with every tick.
            stored = {row.job: row for row in await self._cursors.seen(account.key)}
            known = _Known(now, {job for job, row in stored.items() if _may_change(row)})
            self._known[account.key] = known
        look = _Look(account, known, found, now)
        try:
            first = await self._list(account, None, known=known.idle)
            if first.unchanged:
                return
            known.idle = b""
            await self._read_list(look, first, stored)
        except AppError:
            # The runs of jobs that cannot be listed must not be taken for crashed ones.
            await self._send(look, look.named(known.open - known.complete, "beat"))
            raise

    async def _read_list(
        self, look: _Look, first: Listing, stored: dict[str, JobSeen] | None
    ) -> None:
        account, known, found = look.account, look.known, look.found
        missing = known.open - known.complete
        listed: dict[str, dict[str, Any]] = {}
        unusable, newest_first, is_whole = 0, True, True
        async for page in self.pages(account, first):
            fresh = [raw for raw in page.items if raw["id"] not in known.complete]
            listed |= {raw["id"]: raw for raw in fresh}
            unusable += page.unusable
            found.jobs += len(page.items)
            missing.difference_update(raw["id"] for raw in page.items)
            newest_first = newest_first and _falls(page.items)
            if not fresh and not missing and newest_first:
                # After a page of complete jobs come only jobs that an earlier tick has seen, and
                # every one of those that was open has turned up.
                is_whole = False
                break
        if unusable:
            found.oddities[account.key] = RejectedError(
                f"{unusable} items of the job list could not be read as jobs",
                subject=account.key,
                remedy="no action is needed where every job is in the status; otherwise check what"
                " the fine-tuning API lists for the account",
            )
        elif not listed and not missing and (newest_first or not first.has_more):
            known.idle = first.digest
        if listed:
            if stored is None:
                stored = await self._stored(account, listed)
            await self._send_due(look, listed, stored)
        if missing and is_whole:
            rows = await self._cursors.seen(account.key, sorted(missing))
            missing = {row.job for row in rows if _may_change(row)}
            # The worker reads each one: only its own 404 says that a job is deleted.
            await self._send(look, look.named(missing, "missing"))
        known.open = missing | set(listed)

    async def _stored(
        self, account: RelayAccount, listed: dict[str, dict[str, Any]]
    ) -> dict[str, JobSeen]:
        """Return the rows of the jobs that are sent only if their row says so.

        A job that lives is sent with every tick, unless it is left to its own integration.
        """
        asked = [
            job
            for job, raw in listed.items()
            if (self._skip_native and raw.get("integrations")) or _is_over(raw)
        ]
        if not asked:
            return {}
        some = asked if len(asked) <= _MOST_ASKED else None
        return {row.job: row for row in await self._cursors.seen(account.key, some)}

    async def _send_due(
        self, look: _Look, listed: dict[str, dict[str, Any]], stored: dict[str, JobSeen]
    ) -> None:
        known, now = look.known, look.now
        live: list[dict[str, Any]] = []
        over: list[dict[str, Any]] = []
        for job, raw in listed.items():
            row = stored.get(job)
            if row is not None and row.relay_state in self._closed:
                is_complete = row.relay_state == RelayState.COMPLETE
                # The status of a job left to its own integration is all that people see of it.
                if is_complete or row.status == str(raw.get("status")):
                    if is_complete or _is_over(raw):
                        known.complete.add(job)
                    continue
            if not _is_over(raw) or (row and row.relay_state == RelayState.SKIPPED):
                live.append(raw)
            elif row is None or row.relay_state == RelayState.NEW:
                if now - known.sent.get(job, -_AGAIN_S) >= _AGAIN_S:
                    over.append(raw)
            elif (
                row.retry_at <= now
                or row.relay_state == RelayState.DETACHED
                or (row.relay_state == RelayState.PARKED and row.has_run)
            ):
                live.append(raw)
        known.sent = {job: at for job, at in known.sent.items() if now - at < _AGAIN_S}
        # A job that was over when it was first seen never delays one whose run is live.
        await self._send(
            look, look.messages(live, RelayMessage) + look.messages(over, BackfillMessage)
        )
        known.sent |= dict.fromkeys((raw["id"] for raw in over), now)

    async def _send(self, look: _Look, messages: list[RelayMessage]) -> None:
        await self._work.send(messages)
        look.found.messages += len(messages)

    async def pages(
        self, account: RelayAccount, first: Listing | None = None
    ) -> AsyncIterator[Listing]:
        """Yield the account's jobs page by page, in the service's order; `first` was read already.

        Items without an id that could be a job's are left out and counted as `unusable`.
        """
        after: str | None = None
        for _ in range(_MOST_PAGES):
            listing, first = first or await self._list(account, after), None
            items = [raw for raw in listing.items if is_job_id(raw.get("id"))]
            dropped = len(listing.items) - len(items)
            yield replace(listing, items=items, unusable=listing.unusable + dropped)
            last = items[-1]["id"] if items else None
            if not listing.has_more or last is None or last == after:
                return
            after = last

    async def _list(
        self, account: RelayAccount, after: str | None, *, known: bytes = b""
    ) -> Listing:
        try:
            async with asyncio.timeout(self._page_s):
                return await self._jobs.list_jobs(account, after, PAGE, known=known)
        except TimeoutError:
            raise UnavailableError(
                f"the fine-tuning API did not list the jobs within {self._page_s:g} seconds",
                subject=account.key,
                remedy="retried with the next tick",
            ) from None

    def forget(self, account: str, job: str) -> None:
        """Look at a complete job again."""
        if known := self._known.get(account):
            known.complete.discard(job)
            known.idle = b""


def closed_states(*, skip_native: bool) -> frozenset[RelayState]:
    """Return the states in which a job needs no pass: a job that was skipped does, once native
    jobs are no longer left to their own integration."""
    return CLOSED if skip_native else CLOSED - {RelayState.SKIPPED}


def due_jobs(listed: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return listed jobs, each once, reduced to what a pass reads of them."""
    return list({raw["id"]: reduce_job(raw) for raw in listed if is_job_id(raw.get("id"))}.values())


def job_messages[M: RelayMessage](
    account: RelayAccount,
    jobs: Iterable[dict[str, Any]],
    kind: type[M],
    *,
    sent_at: float,
    trigger: str,
) -> list[M]:
    """Return the messages that carry these jobs, at most JOBS_PER_MESSAGE each.

    Jobs too large for a message travel by id.
    """
    batches: list[list[dict[str, Any]]] = []
    room = 0
    for job in jobs:
        if (needed := len(orjson.dumps(job))) > _MESSAGE_BYTES // 2:
            job = {"id": job["id"]}
            needed = len(orjson.dumps(job))
        if not batches or needed > room or len(batches[-1]) >= JOBS_PER_MESSAGE:
            batches.append([])
            room = _MESSAGE_BYTES
        batches[-1].append(job)
        room -= needed
    return [
        kind(account=str(account.id), jobs=batch, sent_at=sent_at, trigger=trigger)
        for batch in batches
    ]


def _is_over(raw: Mapping[str, Any]) -> bool:
    return str(raw.get("status")) in TERMINAL


def _may_change(row: JobSeen) -> bool:
    # A detached job counts until its run's end is confirmed.
    is_confirmed = row.relay_state == RelayState.DETACHED and not row.retry_at
    return row.relay_state not in CLOSED and not is_confirmed


def _falls(listed: Sequence[dict[str, Any]]) -> bool:
    """Say whether the jobs may be listed newest first, as far as their times tell.

    No specification says so. In a listing of another order a new job can be on any page.
    """
    times = [at for raw in listed if (at := as_number(raw.get("created_at"))) is not None]
    return all(later >= earlier for later, earlier in pairwise(times))
