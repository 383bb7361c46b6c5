"""Faults on request: which calls fail, how often, and in which way.

A fault either answers in the service's place, or drops the connection before or after the
service did its work (`after`: the write took effect and the answer was lost), or is slow, or
holds the call until the rule is removed, so that others can act at that very moment.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

SERVICES = ("arm", "entra", "eventgrid", "openai", "vault", "wandb")
_ACTIONS = ("status", "drop", "delay_s", "truncate", "raw_body", "hold")
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "service": str,
    "path_contains": str,
    "host_contains": str,
    "method": str,
    "skip": int,
    "times": int,
    "probability": (int, float),
    "seed": (int, str),
    "name": str,
    "action": dict,
}


@dataclass
class Fault:
    """One rule. `skip` calls pass first, then `times` counts down; without it `probability`
    decides, by its own seed. A rule can be removed by its `name`.
    """

    service: str | None
    path_contains: str
    host_contains: str
    method: str | None
    times: int | None
    probability: float | None
    action: dict[str, Any]
    rng: random.Random = field(default_factory=random.Random)
    hit_count: int = 0
    name: str = ""
    skip: int = 0
    removed: asyncio.Event = field(default_factory=asyncio.Event)

    def hits(self, service: str, method: str, path: str, host: str) -> bool:
        """Decide whether this request meets the fault, and count it if so."""
        if (
            (self.service and self.service != service)
            or (self.method and self.method != method)
            or self.path_contains not in path
            or self.host_contains not in host
            or (self.times is not None and self.times <= 0)
            or (self.probability is not None and self.rng.random() >= self.probability)
        ):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.hit_count += 1
        return True

    def as_json(self) -> dict[str, Any]:
        """Describe the fault: its rule, `times` still left (null: no limit) and `hits` so far."""
        return {
            "name": self.name,
            "service": self.service,
            "path_contains": self.path_contains,
            "host_contains": self.host_contains,
            "method": self.method,
            "times": self.times,
            "probability": self.probability,
            "action": self.action,
            "hits": self.hit_count,
        }


def parse(body: Any) -> Fault:
    """Read a control body. Raises ValueError that starts with the field that is wrong."""
    if not isinstance(body, dict):
        raise ValueError("body: must be a JSON object")
    for name, value in body.items():
        if name not in _FIELDS:
            raise ValueError(f"{name}: unknown field; known: {', '.join(_FIELDS)}")
        if value is not None and (not isinstance(value, _FIELDS[name]) or isinstance(value, bool)):
            raise ValueError(f"{name}: wrong type {type(value).__name__}")
    service = body.get("service")
    if service is not None and service not in SERVICES:
        raise ValueError(f"service: one of {', '.join(SERVICES)}")
    times = body.get("times")
    if times is not None and times < 1:
        raise ValueError("times: must be at least 1")
    probability = body.get("probability")
    if probability is not None and not 0 <= probability <= 1:
        raise ValueError("probability: from 0 to 1")
    method = body.get("method")
    skip = body.get("skip") or 0
    if skip < 0:
        raise ValueError("skip: must be 0 or more")
    return Fault(
        service=service,
        path_contains=body.get("path_contains") or "",
        host_contains=(body.get("host_contains") or "").lower(),
        method=method.upper() if method else None,
        times=times,
        probability=None if probability is None else float(probability),
        action=_action(body.get("action")),
        rng=random.Random(body.get("seed") or 0),
        name=body.get("name") or "",
        skip=skip,
    )


def _action(action: Any) -> dict[str, Any]:
    if not isinstance(action, dict) or not set(_ACTIONS) & set(action):
        raise ValueError(f"action: an object with one of {', '.join(_ACTIONS)}")
    unknown = set(action) - {*_ACTIONS, "headers", "body"}
    if unknown:
        raise ValueError(f"action.{min(unknown)}: unknown field")
    if len({"status", "drop", "truncate", "raw_body"} & set(action)) > 1:
        raise ValueError("action: status, drop, truncate and raw_body exclude each other")
    if "drop" in action and action["drop"] not in ("before", "after"):
        raise ValueError("action.drop: before or after")
    status = action.get("status", 500)
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError("action.status: an HTTP status from 200 to 599")
    delay = action.get("delay_s", 0)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0:
        raise ValueError("action.delay_s: seconds, 0 or more")
    headers = action.get("headers")
    if headers is not None and not isinstance(headers, dict):
        raise ValueError("action.headers: an object")
    if ("headers" in action or "body" in action) and "status" not in action:
        raise ValueError("action.status: needed beside headers and body")
    return action
