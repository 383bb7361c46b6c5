"""One tick: problems of accounts come and go, whichever process noted them."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows import timers
from finetune_wandb.flows.app import Pause
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.work import Problem, Source
from finetune_wandb.relay.passes.finder import Finder
from tests.fakes import (
    FakeCursors,
    FakeJobs,
    FakeProblems,
    FakeQueue,
    FakeWork,
    Once,
    relay_account,
)
from tests.relay.stage import body

ACCOUNT = relay_account()


class Stage:
    """What outlives a process, and the process."""

    def __init__(self) -> None:
        self.jobs, self.queue, self.problems = FakeJobs(), FakeQueue(), FakeProblems()
        self.start()

    def start(self) -> None:
        """Start the app anew."""

        async def relayed() -> list[Any]:
            return [ACCOUNT]

        self.app: Any = SimpleNamespace(
            accounts=SimpleNamespace(list_for_relay=relayed),
            finder=Finder(self.jobs, FakeCursors(), self.queue),
            problems=self.problems,
            queues=self.queue,
            work=FakeWork(),
            clock=lambda: 1000.0,
            poison_looks=Pause(600.0),
        )

    async def tick(self) -> list[str]:
        """Return the subjects of the problems that stand after a tick."""
        await timers.tick(self.app)
        return [problem.subject for problem in await self.problems.list_all()]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["same process", "another process"])
async def test_problem_of_an_account_is_gone_when_its_jobs_can_be_listed_again(
    is_restarted: bool,
) -> None:
    stage = Stage()
    stage.jobs.gate = Once(list_jobs=UnavailableError("down", subject="x"))
    assert await stage.tick() == [ACCOUNT.key]
    if is_restarted:
        stage.start()
    assert await stage.tick() == []


async def test_problem_stays_when_another_process_meets_it_too() -> None:
    stage = Stage()
    for _ in range(2):
        stage.start()
        stage.jobs.gate = Once(list_jobs=UnavailableError("down", subject="x"))
        assert await stage.tick() == [ACCOUNT.key]


async def test_other_problems_stay_when_a_process_starts() -> None:
    stage = Stage()
    await stage.problems.note(Problem(source=Source.RELAY_TIMER, subject="work", cause="x"))
    await stage.problems.note(Problem(source=Source.RELAY_JOBS, subject="ftjob-1", cause="x"))
    assert await stage.tick() == ["work", "ftjob-1"]


async def test_jobs_are_found_when_looking_after_messages_fails_in_a_new_way() -> None:
    stage = Stage()
    stage.jobs.put(body())

    async def broken() -> list[Any]:
        raise KeyError("no such column")

    stage.app.work.list_open = broken
    assert await stage.tick() == ["work"]
    assert stage.queue.sent
