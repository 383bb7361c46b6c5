"""Relays the jobs of samples, and holds their runs against what was published.

The expectation is worked out in dev/tools/demo/values.py, which shares no code with the relay.
"""

import json
from typing import Any

from dev.tools.demo.values import compare, published, step_of
from finetune_wandb.clients.http import Answer
from finetune_wandb.model.relay.job import parse_job, reduce_job
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests import fakes
from tests.e2e.relay.samples import Case, Json
from tests.e2e.relay.stage import START

_MOST = 2**53
"""Beyond it the expectation's own arithmetic is not exact."""


class Bench:
    """One account that holds many jobs."""

    def __init__(self) -> None:
        self.jobs, self.sink, self.cursors = fakes.FakeJobs(), fakes.FakeSink(), fakes.FakeCursors()
        self.account = fakes.relay_account()
        self.now = START + 100

    async def run(self, made: list[Case]) -> None:
        """Relay the jobs as they are, then as succeeded, until nothing is left to do."""
        for number, case in enumerate(made):
            case.job = {**_over_the_wire(case.job), "id": f"ftjob-{number}"}
            case.events = _over_the_wire(case.events)
            case.checkpoints = _over_the_wire(case.checkpoints)
            files = case.job.get("result_files")
            if case.csv and isinstance(files, list) and files and isinstance(files[0], str):
                files[:] = [f"file-{number}"]
                case.published_csv = case.csv
                self.jobs.files[f"file-{number}"] = case.csv.encode()
            # The client hands on objects only.
            self.jobs.put(
                case.job, events=objects_in(case.events), checkpoints=objects_in(case.checkpoints)
            )
        await self.tick(made)
        for case in made:
            case.job = {**case.job, "status": "succeeded"}
            self.jobs.jobs[case.job["id"]].body = case.job
        for _ in range(8):
            self.now += 70
            await self.tick(made)

    async def tick(self, made: list[Case]) -> None:
        jobs = [parse_job(reduce_job(case.job)) for case in made]
        outcomes = await relay_account(
            self.account,
            [one for one in jobs if one is not None],
            ports=RelayPorts(
                self.jobs, self.cursors, self.sink, fakes.FakeKeys(), new_id=fakes.short_id
            ),
            clock=lambda: self.now,
            options=RelayOptions(skip_native=False),
        )
        for outcome in outcomes:
            assert not outcome.error or outcome.relay_state == "parked", outcome
            assert "unexpected" not in outcome.error, outcome

    def check(self, case: Case) -> None:
        """Hold the run against what was published."""
        cursor = self.cursors.stored[self.account.key, case.job["id"]]
        if cursor.relay_state == "parked":
            # Only a project or entity that W&B has no room for sets a job aside.
            assert "must be 1-128 characters" in cursor.error, cursor
            return
        assert cursor.relay_state == "complete", cursor
        run = self.sink.runs[str(cursor.run)]
        assert run.state == "finished"
        expected = published(
            objects_in(case.events),
            [_with_step(one) for one in objects_in(case.checkpoints)],
            case.published_csv.encode(),
        )
        # A step that is an object of its own is no metric; neither has W&B room for larger ones.
        expected = {
            (step, name): held
            for (step, name), held in expected.items()
            if step < _MOST and not name.startswith("step/")
        }
        found = compare(expected, [row for row in run.history if row["step"] < _MOST])
        assert (found.missing, found.duplicate, found.unexpected) == ([], [], []), case


def _over_the_wire(found: Any) -> Any:
    """Return what the client makes of this as an answer."""
    return Answer(200, {}, json.dumps(found).encode()).json()


def _with_step(checkpoint: Json) -> Json:
    """Return the checkpoint with the step that its metrics name, where it names none itself."""
    metrics, step = checkpoint.get("metrics"), step_of(checkpoint.get("step_number"))
    if (step is not None and step < 2**63) or not isinstance(metrics, dict):
        return checkpoint
    return {**checkpoint, "step_number": metrics.get("step")}


def objects_in(items: list[Any]) -> list[Json]:
    return [item for item in items if isinstance(item, dict)]
