"""A re-sync as people and pipelines see it: counts, rate, time left, and what failed."""

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from finetune_wandb.model.resync import Resync, ResyncItem, is_done
from handlers.status_view import remedy_for


def view(resync: Resync, items: list[ResyncItem], *, now: float) -> dict[str, Any]:
    """Return a re-sync as the API shows it. Counts are of accounts and jobs together.

    `rate_per_s` is over the whole time so far; `left_s` is None while nothing is known.
    """
    total = sum(item.total for item in items)
    done = sum(item.done for item in items)
    failed = sum(item.failed for item in items)
    finished = is_done(resync, items)
    end = max((item.finished_at for item in items), default=now) if finished else now
    elapsed = max(end - resync.created_at, 0.001)
    rate = (done + failed) / elapsed
    return {
        "id": resync.id,
        "state": "done" if finished else "running",
        "total": total,
        "done": done,
        "failed": failed,
        "rate_per_s": round(rate, 3),
        "elapsed_s": round(elapsed, 1),
        "left_s": 0 if finished else math.ceil((total - done - failed) / rate) if rate else None,
        "request": _request(resync),
        "requested_by": resync.requested_by,
        "created_at": _time(resync.created_at),
        "items": [_item(item) for item in items],
    }


def _request(resync: Resync) -> dict[str, Any]:
    since = resync.request.since
    return asdict(resync.request) | {"since": None if since is None else _time(since)}


def _item(item: ResyncItem) -> dict[str, Any]:
    return {
        "name": item.name,
        "account": item.account,
        "state": item.state,
        "total": item.total,
        "done": item.done,
        "failed": item.failed,
        "results": [_result(one) for one in item.results],
    }


def _result(result: dict[str, Any]) -> dict[str, Any]:
    cause = result.get("error")
    return {**result, "remedy": remedy_for(cause, result.get("remedy", ""))} if cause else result


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
