"""Act three: the runs are read back and every value is compared; `.demo/report.json` says how."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dev.tools.demo import readback
from dev.tools.demo.api import FineTuning
from dev.tools.demo.cloud import Json
from dev.tools.demo.values import Comparison, compare
from dev.tools.lines import Lines

_PATIENCE_S: Final = 30.0
"""W&B's own reads lag behind its writes by seconds."""


@dataclass(slots=True)
class RunProof:
    """One job held against its run."""

    job: str
    path: str
    """ENTITY/PROJECT/RUN."""
    state: str = "missing"
    status: str = ""
    """The job's status as the run's summary says it."""
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def holds(self) -> bool:
        return self.comparison.exact and self.state == "finished" and self.status == "succeeded"

    def complaints(self) -> list[str]:
        """Return what is wrong, in words; a few values stand for all."""
        found: list[str] = []
        if self.comparison.expected == 0:
            found.append("the job published no values")
        if self.state != "finished":
            found.append(f"the run is {self.state}, not finished")
        if self.status != "succeeded":
            found.append(f"the run's summary says status {self.status!r}, not succeeded")
        for name in ("missing", "duplicate", "unexpected"):
            values = getattr(self.comparison, name)
            if values:
                some = ", ".join(f"{metric} at step {step}" for step, metric in values[:5])
                found.append(f"{len(values)} values {name}: {some}{' …' * (len(values) > 5)}")
        return found


async def prove(
    jobs: list[Json], api: FineTuning, reader: Lines, *, base_url: str, key: str
) -> list[RunProof]:
    """Compare each job's run with what the API publishes; read again while a run is behind."""
    published = {job["id"]: await api.read_published(job["id"]) for job in jobs}
    end = time.monotonic() + _PATIENCE_S
    while True:
        runs = await readback.read(reader, base_url, key, [job["run"] for job in jobs])
        proofs = [_proof(job, published[job["id"]], runs[job["run"]]) for job in jobs]
        if all(proof.holds for proof in proofs) or time.monotonic() > end:
            return proofs


def _proof(job: Json, published: Any, run: Json | None) -> RunProof:
    proof = RunProof(job["id"], job["run"], comparison=compare(published, ()))
    if run is not None:
        proof.state = run["state"]
        proof.status = str(run["summary"].get("status", ""))
        proof.comparison = compare(published, run["history"])
    return proof


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
