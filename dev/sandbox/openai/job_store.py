"""What each account's fine-tuning and files API holds: jobs with their events, and files.

Bodies are serialised when something changes, not when somebody asks, because benchmarks read
far more often than jobs change. Which jobs exist and what they say is decided by the control
paths and the simulator.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

import orjson

from dev.sandbox.openai.pages import Page, Pages
from dev.sandbox.store import World

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})

Dialect = Literal["v1", "dated"]
"""The two generations of the API; they word the same job differently."""


@dataclass(slots=True)
class StoredFile:
    """A file, uploaded or made by the service. `created_at` in unix seconds."""

    id: str
    filename: str
    purpose: str
    content: bytes
    created_at: int = field(default_factory=lambda: int(time.time()))

    def describe(self, status: str = "processed") -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": status,
        }


@dataclass(slots=True)
class StoredJob:
    """A job as served now. Both dialects give the same object unless the simulator plays it."""

    id: str
    sequence: int
    body: dict[str, Any] = field(default_factory=dict)
    raw: dict[Dialect, bytes] = field(default_factory=dict)
    events: Pages = field(default_factory=Pages)
    checkpoints: Pages = field(default_factory=Pages)
    page_size: int | None = None
    given: dict[str, Any] = field(default_factory=dict)
    """What the control path set, to show it and to complete it by later calls."""

    @property
    def created_at(self) -> float:
        found = self.body.get("created_at")
        return found if isinstance(found, (int, float)) else 0

    @property
    def status(self) -> str:
        return str(self.body.get("status"))


class AccountJobs:
    """Jobs and files of one account, jobs listed newest first."""

    def __init__(self) -> None:
        self.jobs: dict[str, StoredJob] = {}
        self.files: dict[str, StoredFile] = {}
        self._made = 0
        self._order: list[StoredJob] | None = None
        self._places: dict[str, int] = {}

    def add(self, identifier: str) -> StoredJob:
        """Make an empty job, to be shown by `show`."""
        self._made += 1
        job = StoredJob(id=identifier, sequence=self._made)
        self.jobs[identifier] = job
        self._order = None
        return job

    def remove(self, identifier: str) -> None:
        """Forget a job. Raises KeyError when there is none."""
        del self.jobs[identifier]
        self._order = None

    def show(
        self, job: StoredJob, body: dict[str, Any], dated: dict[str, Any] | None = None
    ) -> None:
        """Serve this object for the job from now on; `dated` where that dialect differs."""
        before = job.created_at
        job.body = body
        raw = orjson.dumps(body)
        job.raw = {"v1": raw, "dated": raw if dated is None else orjson.dumps(dated)}
        if job.created_at != before:
            self._order = None

    def page(self, dialect: Dialect, after: str | None, limit: int) -> Page:
        """Return jobs newest first. Raises KeyError when no job has the id `after`."""
        order = self._ordered()
        start = 0 if after is None else self._places[after] + 1
        jobs = order[start : start + limit]
        return Page(
            items=[job.raw[dialect] for job in jobs],
            has_more=start + limit < len(order),
            first_id=jobs[0].id if jobs else None,
            last_id=jobs[-1].id if jobs else None,
        )

    def _ordered(self) -> list[StoredJob]:
        if self._order is None:
            self._order = sorted(
                self.jobs.values(), key=lambda job: (job.created_at, job.sequence), reverse=True
            )
            self._places = {job.id: place for place, job in enumerate(self._order)}
        return self._order


def account_jobs(world: World, account: str) -> AccountJobs:
    """Return what an account holds; an account nobody heard of holds nothing."""
    accounts: dict[str, AccountJobs] = world.part("jobs", dict)
    return accounts.setdefault(account.lower(), AccountJobs())


def new_id(kind: str) -> str:
    """Make an id as Azure writes them: kind, dash, 32 hexadecimal digits."""
    return f"{kind}-{uuid4().hex}"
