"""The queue of artifacts: what is tried again, how long, and what is shown when it is given up."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetune_wandb.flows.app import App
from finetune_wandb.flows.jobs import ARTIFACTS_BUDGET_S, log_artifacts
from finetune_wandb.model.errors import AppError, DeniedError, RejectedError, UnavailableError
from finetune_wandb.model.messages import ArtifactMessage, read_message
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.work import ARTIFACTS, Problem
from finetune_wandb.relay.artifacts import ArtifactLog
from finetune_wandb.relay.ports import RelayPorts
from tests import fakes


class Stuck(fakes.Open):
    """W&B that never answers."""

    async def before(self, call: str) -> None:
        await asyncio.Event().wait()


class Problems:
    def __init__(self) -> None:
        self.noted: list[Problem] = []

    async def note(self, problem: Problem) -> bool:
        self.noted.append(problem)
        return True

    async def clear(self, problem: Problem) -> None:
        key = (problem.source, problem.subject, problem.cause)
        self.noted = [one for one in self.noted if (one.source, one.subject, one.cause) != key]


class Accounts:
    async def find_for_relay(self, account: Any) -> Any:
        known = fakes.relay_account()
        return known if account.key == known.key else None


async def app_with(*errors: AppError, jobs: int = 1) -> Any:
    """Return an app with finished jobs, whose artifacts W&B refuses with these errors first."""
    account = fakes.relay_account()
    left = list(errors)

    class Refusing(fakes.Open):
        async def before(self, call: str) -> None:
            if left:
                raise left.pop(0)

    api, cursors = fakes.FakeJobs(), fakes.FakeCursors()
    for number in range(1, jobs + 1):
        name = f"ftjob-{number}"
        api.put({"id": name, "status": "succeeded", "training_file": "file-1"})
        run = RunPath("team", "proj", name)
        await cursors.save([Cursor(account.key, name, run=run, state={"ended": True})])
    relay = RelayPorts(api, cursors, fakes.FakeSink(), fakes.FakeKeys(), new_id=fakes.short_id)
    return SimpleNamespace(
        accounts=Accounts(),
        relay=relay,
        artifacts=ArtifactLog(relay, fakes.FakeArtifacts(Refusing()), with_content=False),
        problems=Problems(),
        queues=fakes.FakeQueue(),
    )


def message(attempt: int = 0, jobs: int = 1) -> ArtifactMessage:
    names = [f"ftjob-{number}" for number in range(1, jobs + 1)]
    return ArtifactMessage(account=str(fakes.relay_account().id), jobs=names, attempt=attempt)


LOST = UnavailableError("it failed")
REFUSED = RejectedError("it failed")


@pytest.mark.parametrize(("attempt", "pause"), [(0, 30.0), (3, 240.0)])
async def test_job_is_sent_again_later_when_another_try_can_help(
    attempt: int, pause: float
) -> None:
    app = await app_with(LOST)
    await log_artifacts(message(attempt), cast("App", app))
    (sent,) = app.queues.sent
    again = read_message(ARTIFACTS, json.dumps(sent))
    assert (again.jobs, again.attempt) == (["ftjob-1"], attempt + 1)
    assert app.queues.delays == [pause]
    assert app.problems.noted == []


@pytest.mark.parametrize(("attempt", "error"), [(0, REFUSED), (8, LOST)], ids=["final", "given-up"])
async def test_cause_is_shown_until_a_later_try_succeeds(attempt: int, error: AppError) -> None:
    app = await app_with(error)
    (outcome,) = await log_artifacts(message(attempt), cast("App", app))
    assert outcome.error == "it failed"
    assert app.queues.sent == []
    (problem,) = app.problems.noted
    assert (problem.source, problem.subject) == ("job_artifacts", "ftjob-1")
    assert "it failed" in problem.remedy
    (outcome,) = await log_artifacts(message(), cast("App", app))
    assert outcome.error == ""
    assert app.problems.noted == []


@pytest.mark.parametrize("error", [DeniedError("refused", code="401"), LOST])
async def test_every_job_has_its_outcome_when_no_key_can_be_had(error: AppError) -> None:
    app = await app_with(jobs=2)

    async def run_key(secret: Any) -> Any:
        raise error

    app.relay.keys.run_key = run_key
    outcomes = await log_artifacts(message(jobs=2), cast("App", app))
    assert [one.error for one in outcomes] == [error.message] * 2
    assert bool(app.queues.sent) == (error is LOST)
    assert bool(app.problems.noted) == (error is not LOST)


async def test_message_ends_within_its_budget_when_jobs_hang() -> None:
    app = await app_with(jobs=6)
    app.artifacts = ArtifactLog(app.relay, fakes.FakeArtifacts(Stuck()), with_content=False)
    outcomes = await app.artifacts.log(fakes.relay_account(), message(jobs=6).jobs, budget_s=0.2)
    # Those that others kept from their turn have not failed.
    assert [one.begun for one in outcomes] == [True] * 4 + [False] * 2
    assert all(one.again for one in outcomes)

    async def log(*_: Any, budget_s: float) -> Any:
        assert budget_s == ARTIFACTS_BUDGET_S
        return outcomes

    app.artifacts = SimpleNamespace(log=log)
    await log_artifacts(message(8, jobs=6), cast("App", app))
    assert len(app.problems.noted) == 4
    (sent,) = (read_message(ARTIFACTS, json.dumps(one)) for one in app.queues.sent)
    assert (sent.jobs, sent.attempt) == (["ftjob-5", "ftjob-6"], 8)


async def test_nothing_is_done_when_the_account_is_not_looked_after() -> None:
    app = await app_with(LOST)
    other = ArtifactMessage(account=str(fakes.relay_account("another").id), jobs=["ftjob-1"])
    assert await log_artifacts(other, cast("App", app)) == []
