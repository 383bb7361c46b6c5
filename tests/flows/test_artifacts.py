"""The queue of artifacts: what is tried again, how long, and what is told when it is given up."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune_wandb.flows.app import App
from finetune_wandb.flows.artifacts import handle
from finetune_wandb.model.cursor import Cursor, RunPath
from finetune_wandb.model.messages import ArtifactMessage, read_artifacts
from finetune_wandb.model.problem import Problem
from finetune_wandb.model.relay_ports import ArtifactResult, JobArtifacts, RunKey
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.ports import RelayPorts
from tests import fakes


class Described(fakes.FakeJobs):
    """The fine-tuning API with a files API that knows no file."""

    async def describe_file(self, account: Any, file_id: str) -> dict[str, Any]:
        return {"id": file_id, "filename": "train.jsonl"}


class Failing:
    """ArtifactPort that fails as told."""

    def __init__(self, *, lost: bool) -> None:
        self.lost = lost

    async def log(self, jobs: Sequence[JobArtifacts], *, key: RunKey) -> list[ArtifactResult]:
        return [ArtifactResult(one.job, error="it failed", lost=self.lost) for one in jobs]


class Problems:
    def __init__(self) -> None:
        self.noted: list[Problem] = []

    async def note(self, problem: Problem) -> bool:
        self.noted.append(problem)
        return True


class Accounts:
    async def find_for_relay(self, account: Any) -> Any:
        known = fakes.relay_account()
        return known if account.key == known.key else None


async def app_with(artifacts: Any) -> Any:
    account = fakes.relay_account()
    jobs, cursors, sink = Described(), fakes.FakeCursors(), fakes.FakeSink()
    jobs.put({"id": "ftjob-1", "status": "succeeded", "training_file": "file-1"})
    run = RunPath("team", "proj", "ftjob-1")
    await cursors.save([Cursor(account.key, "ftjob-1", run=run, state={"ended": True})])
    return SimpleNamespace(
        accounts=Accounts(),
        relay=RelayPorts(jobs, cursors, sink, fakes.FakeKeys()),
        artifacts=artifacts,
        options=RelayOptions(artifacts=True),
        clock=lambda: 1_764_000_000.0,
        settings=SimpleNamespace(datasets="metadata"),
        problems=Problems(),
        queues=fakes.FakeQueue(),
    )


def message(attempt: int = 0) -> ArtifactMessage:
    return ArtifactMessage(account=str(fakes.relay_account().id), jobs=["ftjob-1"], attempt=attempt)


@pytest.mark.parametrize(("attempt", "pause"), [(0, 30.0), (3, 240.0)])
async def test_job_is_sent_again_later_when_another_try_can_help(
    attempt: int, pause: float
) -> None:
    app = await app_with(Failing(lost=True))
    await handle(message(attempt), cast("App", app))
    (sent,) = app.queues.sent
    again = read_artifacts(json.dumps(sent))
    assert (again.jobs, again.attempt) == (["ftjob-1"], attempt + 1)
    assert app.queues.delays == [pause]
    assert app.problems.noted == []


@pytest.mark.parametrize(("attempt", "lost"), [(0, False), (8, True)], ids=["final", "given-up"])
async def test_cause_is_shown_when_there_is_no_other_try(attempt: int, lost: bool) -> None:
    app = await app_with(Failing(lost=lost))
    (outcome,) = await handle(message(attempt), cast("App", app))
    assert outcome.error == "it failed"
    assert app.queues.sent == []
    (problem,) = app.problems.noted
    assert (problem.source, problem.subject) == ("job_artifacts", "ftjob-1")
    assert "it failed" in problem.cause
    assert problem.remedy


async def test_nothing_is_done_when_the_account_is_not_looked_after() -> None:
    app = await app_with(Failing(lost=True))
    other = ArtifactMessage(account=str(fakes.relay_account("another").id), jobs=["ftjob-1"])
    assert await handle(other, cast("App", app)) == []
