"""A re-sync by hand: its request, its items, and their progress.

Progress never decreases: a job is finished once, even if messages arrive twice or late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from finetune_wandb.model.errors import AppError

Scope = Literal["all", "account", "job"]
Part = Literal["integration", "jobs"]
Mode = Literal["check", "apply"]
SCOPES: Final = get_args(Scope)
PARTS: Final = get_args(Part)
MODES: Final = get_args(Mode)
MOST_RESULTS: Final = 40
"""How many failures an item keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncRequest:
    """A valid request. `since` is unix seconds, None for no limit."""

    scope: str = "all"
    account: str = ""
    job: str = ""
    parts: tuple[str, ...] = PARTS
    mode: str = "apply"
    since: float | None = None
    force: bool = False

    @property
    def applies(self) -> bool:
        return self.mode == "apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync:
    """A re-sync that was accepted. Times are unix seconds."""

    id: str
    request: ResyncRequest
    requested_by: str = ""
    created_at: float = 0.0
    spread: bool = False
    """Whether all its accounts are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResyncItem:
    """One part of the work: an account's check, or some jobs of one account."""

    name: str
    """`account ID` or `jobs ID number`; unique in its re-sync."""
    account: str
    state: Literal["pending", "done", "failed"] = "pending"
    total: int = 1
    done: int = 0
    failed: int = 0
    left: tuple[str, ...] = ()
    """Ids of jobs that are not finished."""
    listed: bool = False
    """For an account: all items of its jobs are stored, so they are not listed again."""
    finished_at: float = 0.0
    results: list[dict[str, Any]] = field(default_factory=list)
    """What the answer shows: failures with their remedies, plans of a check."""


def failure(error: AppError) -> dict[str, Any]:
    """Return an error as a result of an item."""
    return {"error": error.message, "remedy": error.remedy}


def finish_jobs(
    item: ResyncItem, outcomes: Mapping[str, AppError | None], *, now: float
) -> ResyncItem:
    """Return the item with these jobs finished; None says that all went well.

    Jobs that are finished already do not change.
    """
    new = {job: outcomes[job] for job in item.left if job in outcomes}
    failures = [{"job": job, **failure(why)} for job, why in new.items() if why is not None]
    left = tuple(job for job in item.left if job not in new)
    failed = item.failed + len(failures)
    return replace(
        item,
        left=left,
        done=item.done + len(new) - len(failures),
        failed=failed,
        results=[*item.results, *failures][:MOST_RESULTS],
        state="pending" if left else "failed" if failed else "done",
        finished_at=now if new and not left else item.finished_at,
    )


def is_done(resync: Resync, items: Sequence[ResyncItem]) -> bool:
    """Return whether all accounts of a re-sync are known and all its items are finished."""
    return resync.spread and all(item.state != "pending" for item in items)
