"""Faults on request: which calls fail, how often, and in which way.

A fault either answers in the service's place, or drops the connection before or after the
service did its work (`after`: the write took effect and the answer was lost), or is slow.
"""

import random
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """One rule. `times` counts down; without it `probability` decides, by its own seed."""

    service: str | None
    path_contains: str
    method: str | None
    times: int | None
    probability: float | None
    action: dict[str, Any]
    rng: random.Random = field(default_factory=random.Random)

    def hits(self, service: str, method: str, path: str) -> bool:
        if self.service and self.service != service:
            return False
        if self.method and self.method != method:
            return False
        if self.path_contains not in path:
            return False
        if self.probability is not None:
            return self.rng.random() < self.probability
        if self.times is None:
            return True
        if self.times <= 0:
            return False
        self.times -= 1
        return True


def parse(body: Any) -> Fault:
    """Read a control body. Raises ValueError naming the field that is wrong."""
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    action = body.get("action")
    if not isinstance(action, dict) or not {
        "status",
        "drop",
        "delay_s",
        "truncate",
        "raw_body",
    } & set(action):
        raise ValueError("action: give one of status, drop, delay_s, truncate, raw_body")
    if "drop" in action and action["drop"] not in ("before", "after"):
        raise ValueError("action.drop: before or after")
    probability = body.get("probability")
    times = body.get("times")
    return Fault(
        service=body.get("service"),
        path_contains=body.get("path_contains") or "",
        method=body.get("method"),
        times=None if times is None else int(times),
        probability=None if probability is None else float(probability),
        action=action,
        rng=random.Random(body.get("seed", 0)),
    )
