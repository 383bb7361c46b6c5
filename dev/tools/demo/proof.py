"""Act three: the runs are read back with the official client and every value is compared."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from dev.tools.demo.api import FineTuning
from dev.tools.demo.cloud import Json
from dev.tools.demo.compare import Comparison, compare
from dev.tools.demo.readback import Readback

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
    jobs: list[Json], api: FineTuning, readback: Readback, *, base_url: str, key: str
) -> list[RunProof]:
    """Compare each job's run with what the API publishes; read again while a run is behind."""
    published = {job["id"]: await api.read_published(job["id"]) for job in jobs}
    end = time.monotonic() + _PATIENCE_S
    while True:
        runs = await readback.read(base_url, key, [job["run"] for job in jobs])
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
