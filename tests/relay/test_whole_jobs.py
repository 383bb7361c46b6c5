"""Jobs that are over: few at a time in memory, and never before those that run."""

import asyncio
from typing import Any

from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.ports import WHOLE_JOBS, RelayPorts
from tests.fakes import FakeCursors, FakeJobs, FakeKeys, FakeSink, short_id
from tests.relay.stage import Stage, body, event

MESSAGES = 6
JOBS = 20


class Held:
    """Counts the jobs of all messages that were read and not yet sent."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.now: set[str] = set()
        self.most = 0

    def read(self, job: str) -> None:
        self.order.append(job)
        self.now.add(job)
        self.most = max(self.most, len(self.now))


class SeenJobs(FakeJobs):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    async def list_events(self, account: Any, job: str, after: Any, limit: int) -> Any:
        self.held.read(job)
        await asyncio.sleep(0)
        return await super().list_events(account, job, after, limit)


class SeenSink(FakeSink):
    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    async def post(self, run: Any, sent: bytes, *, key: Any) -> bool:
        await asyncio.sleep(0)
        stopped = await super().post(run, sent, key=key)
        self.held.now.discard(run.run_id)
        return stopped


async def test_memory_is_bounded_when_many_messages_bring_jobs_that_are_over() -> None:
    held = Held()
    stage, api = Stage(), SeenJobs(held)
    ports = RelayPorts(api, FakeCursors(), SeenSink(held), FakeKeys(), new_id=short_id)
    messages = []
    for message in range(MESSAGES):
        names = [f"ftjob-{message}-{number}" for number in range(JOBS)]
        for name in names:
            api.put(body("succeeded", id=name), events=[event(1, train_loss=0.5)])
        messages.append([parse_job(api.jobs[name].body) for name in names])
    outcomes = await asyncio.gather(
        *(
            relay_account(
                stage.account,
                [job for job in jobs if job],
                ports=ports,
                clock=lambda: stage.now,
                options=stage.options,
            )
            for jobs in messages
        )
    )
    assert [one.values for found in outcomes for one in found] == [1] * MESSAGES * JOBS
    assert WHOLE_JOBS <= held.most <= 3 * WHOLE_JOBS


async def test_running_job_is_read_first_when_others_are_over() -> None:
    held = Held()
    stage = Stage(api=SeenJobs(held))
    for number in range(JOBS):
        stage.api.put(body("succeeded", id=f"over-{number}"), events=[event(1, train_loss=0.5)])
    stage.api.put(body(id="running"), events=[event(1, train_loss=0.5)])
    outcomes = await stage.tick()
    assert held.order[0] == "running"
    assert [one.job for one in outcomes] == [*(f"over-{n}" for n in range(JOBS)), "running"]
