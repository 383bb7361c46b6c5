"""A re-sync by hand: what was asked for, its items, and how far they are.

Progress only grows: a job is finished once, whatever comes twice or late.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal

ItemState = Literal["pending", "done", "failed"]
SCOPES: Final = ("all", "account", "job")
PARTS: Final = ("integration", "jobs")
MODES: Final = ("check", "apply")
MOST_RESULTS: Final = 40
"""Failures that an item keeps; more of the same help nobody."""


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
    """A re-sync that was taken on. Times are unix seconds."""

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
    state: ItemState = "pending"
    total: int = 1
    done: int = 0
    failed: int = 0
    left: tuple[str, ...] = ()
    """Ids of jobs that are not finished."""
    listed: bool = False
    """Of an account: all items of its jobs are stored, so that they are never listed again."""
    finished_at: float = 0.0
    results: list[dict[str, Any]] = field(default_factory=list)
    """What people need to see: failures with their remedies, plans of a check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """Why a job of a re-sync could not be brought to W&B."""

    error: str
    remedy: str = ""


def finish_jobs(
    item: ResyncItem, outcomes: Mapping[str, JobFailure | None], *, now: float
) -> ResyncItem:
    """Return the item with these jobs finished; None says that all went well.

    Jobs that are finished already are left as they are.
    """
    new = {job: outcomes[job] for job in item.left if job in outcomes}
    failures = {job: why for job, why in new.items() if why is not None}
    left = tuple(job for job in item.left if job not in new)
    failed = item.failed + len(failures)
    shown = [{"job": job, **asdict(why)} for job, why in failures.items()]
    return replace(
        item,
        left=left,
        done=item.done + len(new) - len(failures),
        failed=failed,
        results=[*item.results, *shown][:MOST_RESULTS],
        state="pending" if left else "failed" if failed else "done",
        finished_at=now if new and not left else item.finished_at,
    )


def to_json(value: Resync | ResyncItem) -> dict[str, Any]:
    """Return a re-sync or an item as it is stored."""
    return asdict(value)


def resync_from_json(data: Mapping[str, Any]) -> Resync:
    """Return the re-sync that `to_json` wrote."""
    request = _known(ResyncRequest, data["request"])
    request["parts"] = tuple(request["parts"])
    return Resync(**_known(Resync, data) | {"request": ResyncRequest(**request)})


def item_from_json(data: Mapping[str, Any]) -> ResyncItem:
    """Return the item that `to_json` wrote."""
    values = _known(ResyncItem, data)
    values["left"] = tuple(values.get("left", ()))
    return ResyncItem(**values)


def _known(kind: type, data: Mapping[str, Any]) -> dict[str, Any]:
    # Another release of the app may have written other fields.
    return {item.name: data[item.name] for item in fields(kind) if item.name in data}
