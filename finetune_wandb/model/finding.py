"""One result of a check: what was looked at, what is so, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "warning", "blocked", "manual"]
"""`ok`: as it should be. `warning`: works, but ought to change. `blocked`: the integration
cannot work until this changes. `manual`: a step that only a person can take and that the relay
does not need."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`cause` is a code of `finetune_wandb/model/causes.py`; `evidence` holds ids, names and codes only."""

    check: str
    severity: Severity
    cause: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as the status answer shows it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "cause": self.cause,
            "evidence": dict(self.evidence),
            "remedy": self.remedy,
        }


def finding_from_json(data: Mapping[str, Any]) -> Finding:
    """Return the finding that `to_json` wrote."""
    return Finding(
        check=data["check"],
        severity=data["severity"],
        cause=data["cause"],
        evidence=data["evidence"],
        remedy=data["remedy"],
    )
