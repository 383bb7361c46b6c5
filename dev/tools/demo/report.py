"""`.demo/report.json`: what the demo proved, for people and for machines."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dev.tools.demo.proof import RunProof


@dataclass(slots=True)
class Report:
    """Filled as the story goes on, so that a story that breaks off leaves a report too."""

    account_healthy: bool = False
    proofs: list[RunProof] = field(default_factory=list)
    key_version: str = ""
    """The key version that the demo rotated to, once it is in use."""
    old_key_requests: int | None = None
    """Row requests with the old key after the switch; None where they cannot be counted."""
    new_key_requests: int | None = None
    lag_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return (
            self.account_healthy
            and bool(self.proofs)
            and all(proof.holds for proof in self.proofs)
            and bool(self.key_version)
            and not self.old_key_requests
            and not self.problems
        )

    def to_json(self) -> dict[str, Any]:
        counts = [proof.comparison.counts() for proof in self.proofs]
        names = ("expected", "found", "missing", "duplicate", "unexpected")
        return {
            "ok": self.ok,
            "account": {"healthy": self.account_healthy},
            "values": {name: sum(count[name] for count in counts) for name in names},
            "runs": [
                {
                    "job": proof.job,
                    "run": proof.path,
                    "state": proof.state,
                    "status": proof.status,
                    **count,
                    "complaints": proof.complaints(),
                }
                for proof, count in zip(self.proofs, counts, strict=True)
            ],
            "key": {
                "version": self.key_version,
                "requests_with_old_key": self.old_key_requests,
                "requests_with_new_key": self.new_key_requests,
            },
            "lag_s": {
                "median": sorted(self.lag_s)[len(self.lag_s) // 2] if self.lag_s else None,
                "max": max(self.lag_s, default=None),
            },
            "seconds": round(self.seconds, 1),
            "problems": self.problems,
        }

    def write(self, path: Path) -> None:
        """Write the report where it is looked for, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(self.to_json(), indent=2) + "\n")
        draft.replace(path)
