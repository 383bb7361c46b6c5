"""A job that is deleted in Azure: its run ends with the cause, through finder, queue and worker."""

from types import SimpleNamespace
from typing import Any

import orjson

from finetune_wandb.flows.jobs import handle
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.messages import read_message
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.model.work import RELAY
from finetune_wandb.relay.passes.closing import JOB_DELETED
from finetune_wandb.relay.passes.finder import Finder
from tests.fakes import FakeProblems, FakeQueue, Once, Open
from tests.relay.stage import JOB, Stage, body, event


class World(Stage):
    """A stage whose jobs travel over the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FakeQueue()
        self.finder = Finder(self.api, self.cursors, self.queue)
        self.problems = FakeProblems()

    async def minute(self) -> None:
        """Let the timer tick and the worker do what it sent."""
        await self.finder.tick([self.account], clock=lambda: self.now)
        messages, self.queue.sent = self.queue.sent, []

        async def find(target: Any) -> Any:
            return self.account

        app: Any = SimpleNamespace(
            accounts=SimpleNamespace(find_for_relay=find),
            relay=self.ports(),
            options=self.options,
            clock=lambda: self.now,
            finder=self.finder,
            problems=self.problems,
            telemetry=NoTelemetry(),
        )
        for message in messages:
            await handle(read_message(RELAY, orjson.dumps(message)), app)
        self.now += 60


def _world() -> World:
    world = World()
    world.api.put(body(), events=[event(1, train_loss=0.5)])
    world.api.put({**body(), "id": "ftjob-2"}, events=[event(1, train_loss=0.5)])
    return world


async def test_run_ends_with_the_cause_when_its_job_is_deleted() -> None:
    world = _world()
    for _ in range(3):
        await world.minute()
    run = world.sink.runs[f"team/proj/{JOB}"]
    assert run.state == "running"
    del world.api.jobs[JOB]
    await world.minute()
    assert (run.state, run.exitcode) == ("failed", 1)
    assert run.output[-1].endswith(JOB_DELETED.text)
    assert (world.cursor.relay_state, world.cursor.error) == ("detached", JOB_DELETED.text)
    finishes = run.finishes
    for _ in range(30):
        await world.minute()
    assert run.finishes == finishes
    assert world.sink.runs["team/proj/ftjob-2"].state == "running"


async def test_run_goes_on_when_the_job_is_listed_again() -> None:
    world = _world()
    await world.minute()
    gone = world.api.jobs.pop(JOB)
    await world.minute()
    run = world.sink.runs[f"team/proj/{JOB}"]
    assert run.state == "failed"
    world.api.jobs[JOB] = gone
    gone.events.insert(0, event(2, train_loss=0.4))
    await world.minute()
    assert (run.state, [row["step"] for row in run.history]) == ("running", [1, 2])


async def test_run_goes_on_when_the_job_is_only_missing_from_a_listing() -> None:
    world = _world()
    await world.minute()
    hidden = world.api.jobs.pop(JOB)
    world.api.gate = Once(read_job=UnavailableError("503"))
    await world.minute()
    run = world.sink.runs[f"team/proj/{JOB}"]
    assert run.state == "running", "a service that does not answer says nothing"
    world.api.jobs[JOB] = hidden
    await world.minute()
    assert run.state == "running"


class Unlisted(Open):
    """No listing has the jobs; they can be read one by one, or not."""

    def __init__(self, world: World, *, readable: bool) -> None:
        self._world, self._jobs, self._readable = world, dict(world.api.jobs), readable

    async def before(self, call: str) -> None:
        self._world.api.jobs = {} if call == "list_jobs" else dict(self._jobs)
        if call == "read_job" and not self._readable:
            raise UnavailableError("busy", subject="openai")


async def test_run_is_kept_alive_while_its_job_is_neither_listed_nor_readable() -> None:
    world = _world()
    for _ in range(2):
        await world.minute()
    run = world.sink.runs[f"team/proj/{JOB}"]
    posts = run.posts
    world.api.gate = Unlisted(world, readable=False)
    for _ in range(5):
        await world.minute()
    assert run.posts >= posts + 5
    assert JOB in {one.subject for one in await world.problems.list_all()}
    world.api.jobs = dict(world.api.gate._jobs)
    world.api.gate = Unlisted(world, readable=True)
    await world.minute()
    assert await world.problems.list_all() == []
