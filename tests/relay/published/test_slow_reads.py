"""A job that takes long to read delays nobody, is read by one worker, and keeps its run alive."""

import asyncio
from typing import Any

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.relay.ports import Listing
from tests.fakes import FakeJobs
from tests.relay.stage import JOB, Stage, body, event

SLOW = "ftjob-slow"


class SlowJobs(FakeJobs):
    """Events of one job come only when they may."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        if job == SLOW:
            await self.go.wait()
        return await super().list_events(account, job, after, limit)


def _stage() -> tuple[Stage, SlowJobs, dict[str, Any]]:
    api = SlowJobs()
    stage = Stage(api=api)
    api.put(body(), events=[event(1, train_loss=0.5)])
    api.put({**body(), "id": SLOW}, events=[event(1, train_loss=0.5)])
    return stage, api, {"patience_s": 0.01, "hold_s": 0.02}


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # fakes have no events to wait for
            await asyncio.sleep(0.005)


async def test_others_are_sent_when_one_job_hangs() -> None:
    stage, api, times = _stage()
    tick = asyncio.ensure_future(stage.tick(**times))
    await _until(lambda: f"team/proj/{JOB}" in stage.sink.runs)
    assert not tick.done()
    assert stage.values(stage.sink.runs[f"team/proj/{JOB}"]) == [(1, "train_loss", 0.5)]
    api.go.set()
    outcomes = await tick
    assert [one.relay_state for one in outcomes] == ["live", "live"]
    assert len(stage.sink.runs) == 2


async def test_job_is_left_alone_when_another_worker_is_reading_it() -> None:
    stage, api, times = _stage()
    api.go.set()
    await stage.tick()
    stage.now += 60
    api.go.clear()
    tick = asyncio.ensure_future(stage.tick(**times))
    account = stage.account.key
    await _until(lambda: stage.cursors.stored[account, SLOW].busy_until > stage.now)
    calls = len(api.calls)
    await stage.tick()
    assert api.calls[calls:] == ["list_events"], "only the other job is read"
    # After a crash nobody renews the claim, and the next tick but one reads the job.
    tick.cancel()
    await asyncio.gather(tick, return_exceptions=True)
    api.go.set()
    api.jobs[SLOW].events.insert(0, event(2, train_loss=0.4))
    stage.now += 110
    await stage.tick()
    assert len(stage.values(stage.sink.runs[f"team/proj/{SLOW}"])) == 2


async def test_run_is_kept_alive_when_its_job_takes_long_to_read() -> None:
    stage, api, times = _stage()
    api.go.set()
    await stage.tick()
    stage.now += 60
    api.go.clear()
    run = stage.sink.runs[f"team/proj/{SLOW}"]
    posts = run.posts
    tick = asyncio.ensure_future(stage.tick(**times))
    await _until(lambda: run.posts > posts)
    posts = run.posts
    stage.now += 60
    await _until(lambda: run.posts > posts)
    api.go.set()
    await tick


async def test_job_is_given_up_with_its_cause_when_reading_takes_too_long() -> None:
    stage, _, times = _stage()
    tick = asyncio.ensure_future(stage.tick(**times, budget_s=30.0))
    await asyncio.sleep(0.05)
    stage.now += 31
    outcomes = {one.job: one for one in await tick}
    assert outcomes[JOB].error == ""
    assert "took longer than" in outcomes[SLOW].error
    assert (outcomes[SLOW].temporary, bool(outcomes[SLOW].remedy)) == (True, True)
    assert stage.cursors.stored[stage.account.key, SLOW].error == outcomes[SLOW].error
