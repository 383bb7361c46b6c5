"""Find the jobs that have work: one listing an account, and nothing for finished history.

Jobs that are known to be complete are remembered in the process, so an idle tick costs one call
to the fine-tuning API for each account and no storage. What is remembered can only grow: a job
that is complete stays so, unless a person asks for it again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import orjson

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import JobSeen
from finetune_wandb.model.errors import AppError, RejectedError, TemporaryError
from finetune_wandb.model.job import TERMINAL, is_job_id
from finetune_wandb.model.job_object import as_number
from finetune_wandb.model.relay_ports import CursorsPort, JobsPort, Listing, WorkPort
from finetune_wandb.relay.passes import select

log = logging.getLogger(__name__)

PAGE: Final = 100
_AT_ONCE: Final = 32
_MOST_PAGES: Final = 10_000
_REMEMBER_S: Final = 3600.0
"""A person can have a complete job started over through another process of the app."""
_BELIEVE_S: Final = 300.0
"""For so long a running job that was not set aside is sent without another look at its row: what
has set it aside since leaves it alone when it comes."""
_TOLD_S: Final = 86_400.0
"""So long after its end a job has no status that is new."""
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


class Finder:
    """One per process; holds what is known to be complete."""

    def __init__(
        self,
        jobs: JobsPort,
        cursors: CursorsPort,
        work: WorkPort,
        *,
        closed: frozenset[str] = select.CLOSED,
    ) -> None:
        """`closed` are the states in which a job needs no pass."""
        self._states = closed
        self._jobs = jobs
        self._cursors = cursors
        self._work = work
        self._closed: dict[str, set[str]] = {}
        self._closed_since: dict[str, float] = {}
        self._open: dict[str, set[str]] = {}
        self._live: dict[str, dict[str, float]] = {}
        """Until when a job of an account is believed to be relayed as it runs."""
        self._idle: dict[str, bytes] = {}
        """Digest of the first page of an account all of whose jobs were complete."""
        self._failing: set[tuple[str, str]] = set()
        self._told: dict[tuple[str, str], str] = {}
        """Status with which a skipped job of an account was last sent."""

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
                except Exception as error:  # one account's surprise must not stop the others
                    log.exception("account %s: unexpected", account.key)
                    found.failures[account.key] = TemporaryError(
                        f"unexpected {type(error).__name__} while listing jobs",
                        subject=account.key,
                        remedy="tried again with the next tick; the traceback is in the log",
                    )

        await asyncio.gather(*(one(account) for account in accounts))
        problems = (*found.failures.items(), *found.oddities.items())
        failing = {(account, error.message) for account, error in problems}
        found.recovered = sorted(self._failing - failing)
        self._failing = failing
        return found

    async def _tick_account(self, account: RelayAccount, found: Found, now: float) -> None:
        if now - self._closed_since.setdefault(account.key, now) > _REMEMBER_S:
            self._closed.pop(account.key, None)
            self._idle.pop(account.key, None)
            self._live.pop(account.key, None)
            self._closed_since[account.key] = now
        closed = self._closed.setdefault(account.key, set())
        missing = self._open.get(account.key, set()) - closed
        unknown: list[dict[str, Any]] = []
        unusable, newest_first = 0, True
        first = await self._jobs.list_jobs(
            account, None, PAGE, known=self._idle.pop(account.key, b"")
        )
        if first.unchanged:
            self._idle[account.key] = first.digest
            return
        async for page in self.pages(account, first):
            fresh = [raw for raw in page.items if raw.get("id") not in closed]
            unknown.extend(fresh)
            unusable += page.unusable
            found.jobs += len(page.items)
            missing.difference_update(str(raw.get("id")) for raw in fresh)
            newest_first = newest_first and _falls(page.items)
            if not fresh and not missing and newest_first:
                # Behind a page of complete jobs lie only jobs that an earlier tick has seen, and
                # every one of those that was open has turned up.
                break
        self._open[account.key] = {str(raw.get("id")) for raw in unknown}
        if unusable:
            found.oddities[account.key] = RejectedError(
                f"{unusable} items of the job list are no jobs",
                subject=account.key,
                remedy="nothing, where every job is in the status; else look at the list that the"
                " fine-tuning API answers for the account",
            )
        elif not unknown and (newest_first or not first.has_more):
            self._idle[account.key] = first.digest
        if not unknown:
            return
        seen = await self._seen(account, unknown, now)
        news = self._untold(account, unknown, seen, now)
        closed |= {
            raw["id"]
            for raw in unknown
            if (item := seen.get(raw["id"]))
            and item.relay_state in self._states
            and (item.relay_state != "skipped" or str(raw.get("status")) in TERMINAL)
            and raw["id"] not in news
        }
        known = {job: item for job, item in seen.items() if job not in news}
        found.messages += await self.send(account, unknown, known, now=now, trigger="timer")
        # Only now: a status that could not be sent is sent with the next tick.
        self._told |= {(account.key, job): status for job, status in news.items()}

    def _untold(
        self,
        account: RelayAccount,
        listed: Sequence[dict[str, Any]],
        seen: dict[str, JobSeen],
        now: float,
    ) -> dict[str, str]:
        """Return status by id of the jobs left to their own integration that need a pass for it.

        Their status is all that people see of them here.
        """
        news: dict[str, str] = {}
        if "skipped" not in self._states:
            return news
        for raw in listed:
            job, status = raw["id"], str(raw.get("status"))
            ended = as_number(raw.get("finished_at"))
            is_old = status in TERMINAL and ended is not None and now - ended > _TOLD_S
            is_skipped = job in seen and seen[job].relay_state == "skipped"
            if is_skipped and not is_old and self._told.get((account.key, job)) != status:
                news[job] = status
        return news

    async def _seen(
        self, account: RelayAccount, listed: Sequence[dict[str, Any]], now: float
    ) -> dict[str, JobSeen]:
        """Return the stored state of the listed jobs but for those believed to be live.

        The first look reads the whole account; its history is not read again with every tick.
        """
        believed = self._live.get(account.key)
        running = {raw["id"] for raw in listed if str(raw.get("status")) not in TERMINAL}
        asked: list[str] | None = None
        if believed is not None:
            asked = [
                raw["id"]
                for raw in listed
                if raw["id"] not in running or believed.get(raw["id"], 0.0) <= now
            ]
            asked = asked if len(asked) <= _MOST_ASKED else None
        rows = await self._cursors.seen(account.key, asked) if asked != [] else []
        live = {job: until for job, until in (believed or {}).items() if until > now}
        for row in rows:
            live.pop(row.job, None)
            if row.relay_state == "live" and row.retry_at <= now and row.job in running:
                live[row.job] = now + _BELIEVE_S
        self._live[account.key] = live
        return {row.job: row for row in rows}

    async def send(
        self,
        account: RelayAccount,
        jobs: Sequence[dict[str, Any]],
        seen: dict[str, JobSeen],
        *,
        now: float,
        trigger: str,
    ) -> int:
        """Send the jobs that have work; return the number of messages."""
        due = select.due_jobs(jobs, seen, now=now, closed=self._states)
        messages = select.messages(account, due, sent_at=now, trigger=trigger, size=json_size)
        await self._work.send(messages)
        return len(messages)

    async def pages(
        self, account: RelayAccount, first: Listing | None = None
    ) -> AsyncIterator[Listing]:
        """Yield the account's jobs page by page, in the service's order; `first` was read already.

        Items without an id that could be a job's are left out and counted as `unusable`.
        """
        after: str | None = None
        for _ in range(_MOST_PAGES):
            listing, first = first or await self._jobs.list_jobs(account, after, PAGE), None
            items = [raw for raw in listing.items if is_job_id(raw.get("id"))]
            dropped = len(listing.items) - len(items)
            yield replace(listing, items=items, unusable=listing.unusable + dropped)
            last = items[-1]["id"] if items else None
            if not listing.has_more or last is None or last == after:
                return
            after = last

    def forget(self, account: str, job: str) -> None:
        """Look at a complete job again."""
        self._closed.get(account, set()).discard(job)
        self._idle.pop(account, None)


def _falls(listed: Sequence[dict[str, Any]]) -> bool:
    """Say whether the jobs may stand newest first, as far as their times tell.

    No specification says so. In a listing of another order a new job can be on any page.
    """
    times = [at for raw in listed if (at := as_number(raw.get("created_at"))) is not None]
    return all(later >= earlier for later, earlier in pairwise(times))


def json_size(value: object) -> int:
    """Return the length of a value as JSON in bytes."""
    return len(orjson.dumps(value))
