"""One small world for tests of single situations: fakes, a clock to turn, and a pass to run."""

from dataclasses import dataclass, field
from typing import Any

from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests.fakes import FakeCursors, FakeJobs, FakeKeys, FakeRun, FakeSink, short_id
from tests.fakes import relay_account as account_named

T0 = 1_764_000_000
JOB = "ftjob-1"


def body(status: str = "running", **more: Any) -> dict[str, Any]:
    """Return a job object; it was created at T0 and, where over, ended 100 s later."""
    over = status in ("succeeded", "failed", "cancelled")
    return {
        "id": JOB,
        "created_at": T0,
        "finished_at": T0 + 100 if over else None,
        "status": status,
        "model": "gpt-4o-mini",
        **more,
    }


def event(step: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"ev-{step}",
        "created_at": T0 + step,
        "level": "info",
        "message": f"Step {step}",
        "data": {"step": step, **values},
    }


@dataclass
class Stage:
    """Everything around one account's jobs."""

    now: float = float(T0 + 100)
    api: FakeJobs = field(default_factory=FakeJobs)
    cursors: FakeCursors = field(default_factory=FakeCursors)
    sink: FakeSink = field(default_factory=FakeSink)
    keys: FakeKeys = field(default_factory=FakeKeys)
    account: Any = field(default_factory=account_named)
    options: RelayOptions = field(default_factory=RelayOptions)

    beats: dict[tuple[str, str], float] = field(default_factory=dict)

    def ports(self, **other: Any) -> RelayPorts:
        given: dict[str, Any] = {
            "jobs": self.api,
            "cursors": self.cursors,
            "sink": self.sink,
            "keys": self.keys,
            "beats": self.beats,
            "new_id": short_id,
        }
        return RelayPorts(**{**given, **other})

    async def tick(self, *, force: bool = False, **other: Any) -> list[JobOutcome]:
        """Run one pass over every job of the API, as listed now."""
        jobs = [job for one in self.api.jobs.values() if (job := parse_job(one.body))]
        return await relay_account(
            self.account,
            jobs,
            ports=self.ports(**other),
            clock=lambda: self.now,
            options=self.options,
            force=force,
        )

    async def finish(self) -> None:
        """Tick once a minute until the job is complete."""
        for _ in range(12):
            (outcome,) = await self.tick()
            if outcome.relay_state == "complete":
                return
            self.now += 60
        raise AssertionError(outcome)

    @property
    def cursor(self) -> Cursor:
        return self.cursors.stored[self.account.key, JOB]

    @property
    def run(self) -> FakeRun:
        (run,) = self.sink.runs.values()
        return run

    def values(self, run: FakeRun | None = None) -> list[tuple[int, str, Any]]:
        """Return (step, metric, value) of every value in the run, in its order."""
        return [
            (row["step"], name, value)
            for row in (run or self.run).history
            for name, value in row.items()
            if name != "step" and not name.startswith("_")
        ]
