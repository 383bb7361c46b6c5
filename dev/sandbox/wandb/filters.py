"""Which runs a listing keeps, and in which order: the filter language of the public API.

Filters are MongoDB-like: `{"state": "finished", "config.lr": {"$lt": 0.1}, "$or": […]}`.
"""

import re
from collections.abc import Callable
from typing import Any

from dev.sandbox.wandb.keys import Refusal
from dev.sandbox.wandb.lines import loads
from dev.sandbox.wandb.schema import iso
from dev.sandbox.wandb.store import Hub, Run

_ABSENT = object()

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
}


def select(hub: Hub, runs: list[Run], filters: str | None, order: str | None) -> list[Run]:
    """Return the runs that match, in order. Raises 400 for a filter that is not understood."""
    try:
        wanted = loads(filters) if filters else {}
    except ValueError:
        raise Refusal(400, "filters is not valid JSON") from None
    kept = [run for run in runs if _matches(hub, run, wanted)] if wanted else list(runs)
    order = order or "+created_at"
    name = order.lstrip("+-")
    if name in ("created_at", "createdAt"):
        # Runs are kept in the order of their creation, which seconds would not tell apart.
        return kept[::-1] if order.startswith("-") else kept
    present = [r for r in kept if _value(hub, r, name) not in (_ABSENT, None)]
    absent = [r for r in kept if _value(hub, r, name) in (_ABSENT, None)]
    try:
        present.sort(key=lambda r: _value(hub, r, name), reverse=order.startswith("-"))
    except TypeError:
        present.sort(key=lambda r: str(_value(hub, r, name)), reverse=order.startswith("-"))
    return present + absent


def _dotted(tree: Any, path: str) -> Any:
    if isinstance(tree, dict) and path in tree:
        return tree[path]
    head, _, rest = path.partition(".")
    if not rest or not isinstance(tree, dict) or head not in tree:
        return _ABSENT
    return _dotted(tree[head], rest)


def _value(hub: Hub, run: Run, name: str) -> Any:
    match name.partition("."):
        case ("config", _, path):
            wrapped = run.config_values()
            values = {k: v.get("value") if isinstance(v, dict) else v for k, v in wrapped.items()}
            found = _dotted(values, path)
            return _dotted(wrapped, path) if found is _ABSENT else found
        case ("summary_metrics" | "summaryMetrics" | "summary", _, path):
            return _dotted(run.summary(), path)
        case ("state", _, _):
            return hub.state_of(run)
        case ("created_at" | "createdAt", _, _):
            return iso(run.created_at)
        case ("heartbeat_at" | "heartbeatAt", _, _):
            return iso(run.heartbeat_at)
        case ("display_name" | "displayName", _, _):
            return run.display_name
        case ("job_type" | "jobType", _, _):
            return run.job_type
        case ("username" | "user", _, _):
            return run.username
        case ("name" | "group" | "tags" | "notes" | "description" | "commit", _, _):
            return getattr(run, name)
        case _:
            return _ABSENT


def _matches(hub: Hub, run: Run, wanted: Any) -> bool:
    if not isinstance(wanted, dict):
        raise Refusal(400, "a filter must be an object")
    for name, rule in wanted.items():
        if name == "$and":
            fits = all(_matches(hub, run, part) for part in rule)
        elif name == "$or":
            fits = any(_matches(hub, run, part) for part in rule)
        elif name == "$not":
            fits = not _matches(hub, run, rule)
        else:
            fits = _fits(_value(hub, run, name), rule)
        if not fits:
            return False
    return True


def _fits(value: Any, rule: Any) -> bool:
    if not isinstance(rule, dict):
        return bool(value == rule) or (isinstance(value, list) and rule in value)
    return all(_operator(value, name, operand) for name, operand in rule.items())


def _operator(value: Any, name: str, operand: Any) -> bool:
    if name in _COMPARE:
        try:
            return value is not _ABSENT and _COMPARE[name](value, operand)
        except TypeError:
            return False
    match name:
        case "$eq":
            return _fits(value, operand)
        case "$ne":
            return not _fits(value, operand)
        case "$in":
            return any(_fits(value, item) for item in operand)
        case "$nin":
            return not any(_fits(value, item) for item in operand)
        case "$not":
            return not _fits(value, operand)
        case "$exists":
            return (value is not _ABSENT) == bool(operand)
        case "$regex":
            return isinstance(value, str) and re.search(operand, value) is not None
        case _:
            raise Refusal(400, f"the filter operator {name} is not known")
