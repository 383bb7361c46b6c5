"""Two workers on one job: the slow one's late request must not undo the quick one's end."""

import asyncio

import pytest

from tests.fakes import FakeCursors, FakeSink, Open
from tests.relay.race import Died
from tests.relay.stage import Stage, body, event


class Slow(Open):
    """Holds one call back until it is let go; then it takes effect, and the worker may die."""

    def __init__(self, dies: bool, call: str = "post") -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self._dies, self._call = dies, call

    async def before(self, call: str) -> None:
        if call == self._call and not self.begun.is_set():
            self.begun.set()
            await self.go.wait()

    async def after(self, call: str) -> None:
        if call == self._call and self._dies:
            raise Died


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_run_keeps_its_end_when_a_slow_worker_posts_late(dies: bool) -> None:
    stage = Stage()
    job = stage.api.put(body(), events=[event(1, train_loss=2.0)])
    gate = Slow(dies)
    sink = FakeSink(gate)
    sink.runs = stage.sink.runs
    slow = asyncio.ensure_future(stage.tick(sink=sink))
    await gate.begun.wait()

    # The quick worker finds the outbox, sends it, and goes on until the job's end.
    job.body = body("succeeded", fine_tuned_model="ft:m")
    job.events = [event(2, train_loss=1.0), *job.events]
    await stage.tick()
    assert stage.run.state == "finished"
    assert [step for step, _, _ in stage.values()] == [1, 2]

    gate.go.set()
    (result,) = await asyncio.gather(slow, return_exceptions=True)
    if dies:
        assert isinstance(result, Died)
        assert stage.run.state == "running"  # the late request has revived it
    else:
        assert [one.relay_state for one in result] == ["overtaken"]
        assert stage.run.state == "finished"  # it saw that it was overtaken, and ended it again
    stage.now += 60
    await stage.finish()
    assert (stage.run.state, stage.run.exitcode) == ("finished", 0)
    assert stage.run.summary["fine_tuned_model"] == "ft:m"
    assert stage.run.summary["train_loss"] == 1.0
    assert stage.values() == [(1, "train_loss", 2.0), (2, "train_loss", 1.0)]


@pytest.mark.parametrize("call", ["post", "ensure_run"], ids=["heartbeat", "attributes"])
async def test_run_keeps_its_end_when_a_dying_worker_only_said_that_it_lives(call: str) -> None:
    """A request without an outbox: nothing of it is left for the next worker to find."""
    stage = Stage()
    job = stage.api.put(body("running" if call == "post" else "pending"))
    await stage.tick()
    stage.now += 130
    if call == "ensure_run":
        job.body = body("pending", suffix="renamed")
    gate = Slow(dies=True, call=call)
    sink = FakeSink(gate)
    sink.runs = stage.sink.runs
    slow = asyncio.ensure_future(stage.tick(sink=sink))
    await gate.begun.wait()

    # Another worker has something to send before a third one ends the run.
    job.body, job.events = body(), [event(1, train_loss=2.0)]
    await stage.tick()
    stage.now += 60
    job.body = body("succeeded", finished_at=stage.now)
    await stage.tick()
    assert stage.run.state == "finished"

    gate.go.set()
    (result,) = await asyncio.gather(slow, return_exceptions=True)
    assert isinstance(result, Died)
    assert stage.run.state == ("running" if call == "post" else "pending")
    stage.now += 60
    await stage.finish()
    assert (stage.run.state, stage.run.exitcode) == ("finished", 0)
    assert stage.values() == [(1, "train_loss", 2.0)]


async def test_run_is_finished_once_when_nobody_is_slow() -> None:
    """People's own alerts hang on a run's end: it is not repeated without need."""
    stage = Stage()
    job = stage.api.put(body())
    for _ in range(3):
        await stage.tick()
        stage.now += 130
    job.body, job.events = body("succeeded"), [event(1, train_loss=2.0)]
    await stage.finish()
    assert stage.run.finishes == 1


async def test_second_worker_leaves_the_job_when_the_first_one_saved_before() -> None:
    stage = Stage()
    stage.api.put(body(), events=[event(1, train_loss=2.0)])
    gate = Slow(dies=False, call="save")
    cursors = FakeCursors(gate)
    cursors.stored = stage.cursors.stored
    second = asyncio.ensure_future(stage.tick(cursors=cursors))
    await gate.begun.wait()
    (first,) = await stage.tick()
    posts = stage.run.posts
    gate.go.set()
    assert [one.relay_state for one in (first, *await second)] == ["live", "overtaken"]
    assert (stage.run.posts, stage.values()) == (posts, [(1, "train_loss", 2.0)])


async def test_ended_run_is_not_set_pending_when_another_worker_ended_it_meanwhile() -> None:
    stage = Stage()
    job = stage.api.put(body("queued"))
    gate = Slow(dies=False)
    sink = FakeSink(gate)
    sink.runs = stage.sink.runs
    slow = asyncio.ensure_future(stage.tick(sink=sink))
    await gate.begun.wait()
    job.body = body("failed", error={"code": "bad", "message": "no"})
    await stage.tick()
    assert stage.run.state == "failed"
    gate.go.set()
    await slow
    assert stage.run.state != "pending"
    stage.now += 60
    await stage.finish()
    assert stage.run.state == "failed"
