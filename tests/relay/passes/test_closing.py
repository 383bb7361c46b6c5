"""The open runs of an account that is gone get their end, once, and lose no value by it."""

from typing import Any

import pytest

from finetune_wandb.model.errors import DeniedError, UnavailableError
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.closing import ACCOUNT_DELETED, Closed, beat_runs, close_runs
from finetune_wandb.relay.passes.schedule import SLOWEST_S
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests.fakes import ENTITY, PROJECT, FakeCursors, FakeJobs, FakeKeys, FakeSink, Once, short_id
from tests.fakes import relay_account as account_named

ACCOUNT = account_named()
NOW = 1_764_000_500.0
RUN = f"{ENTITY}/{PROJECT}/ftjob-1"


class World:
    """One account with one job; passes and ends as the handlers make them."""

    def __init__(self) -> None:
        self.jobs, self.cursors, self.sink = FakeJobs(), FakeCursors(), FakeSink()
        self.keys = FakeKeys()

    @property
    def ports(self) -> RelayPorts:
        return RelayPorts(self.jobs, self.cursors, self.sink, self.keys, new_id=short_id)

    async def relay(self, steps: int, status: str = "running", now: float = NOW) -> None:
        events = [
            {
                "id": f"e{step}",
                "created_at": 1_764_000_000 + step,
                "message": f"Step {step}",
                "type": "metrics",
                "data": {"step": step, "train_loss": 1 / step},
            }
            for step in range(1, steps + 1)
        ]
        raw: dict[str, Any] = {"id": "ftjob-1", "status": status, "created_at": 1_764_000_000}
        self.jobs.put(raw, events=events)
        job = parse_job(raw)
        assert job is not None
        await relay_account(
            ACCOUNT, [job], ports=self.ports, clock=lambda: now, options=RelayOptions()
        )

    async def close(self, now: float = NOW) -> Closed:
        return await close_runs(ACCOUNT, self.ports, ACCOUNT_DELETED, now=now)

    @property
    def cursor(self) -> Any:
        return self.cursors.stored[ACCOUNT.key, "ftjob-1"]

    @property
    def steps(self) -> list[int]:
        return [row["step"] for row in self.sink.runs[RUN].history]


async def test_live_run_is_failed_with_a_line_that_says_why() -> None:
    world = World()
    await world.relay(3)
    assert await world.close() == Closed(ended=1)
    run = world.sink.runs[RUN]
    assert (run.state, run.exitcode) == ("failed", 1)
    assert run.output[-1].endswith(ACCOUNT_DELETED.text)
    assert world.steps == [1, 2, 3]
    assert (world.cursor.relay_state, world.cursor.error) == ("detached", ACCOUNT_DELETED.text)
    assert world.cursor.remedy


async def test_nothing_is_sent_again_when_the_run_has_its_end() -> None:
    world = World()
    await world.relay(3)
    await world.close()
    posts = world.sink.runs[RUN].posts
    assert await world.close() == Closed(waiting=1)
    assert await world.close(NOW + SLOWEST_S) == Closed()
    assert world.cursor.retry_at == 0
    assert world.sink.runs[RUN].posts == posts


@pytest.mark.parametrize("after", [1, SLOWEST_S])
async def test_end_is_said_again_when_a_late_request_reopened_the_run(after: float) -> None:
    world = World()
    await world.relay(3)
    await world.close()
    run = world.sink.runs[RUN]
    run.state, run.exitcode = "running", None
    closed = await world.close(NOW + after)
    assert (run.state, run.exitcode) == ("failed", 1)
    assert closed == Closed(waiting=int(after < SLOWEST_S))
    assert world.steps == [1, 2, 3]


async def test_end_waits_for_a_wandb_that_does_not_say_how_the_run_stands() -> None:
    world = World()
    await world.relay(3)
    await world.close()
    run = world.sink.runs[RUN]
    run.state, run.exitcode = "running", None
    world.sink.gate = Once(read_run=UnavailableError("down"))
    assert await world.close(NOW + SLOWEST_S) == Closed(waiting=1)
    assert await world.close(NOW + SLOWEST_S) == Closed()
    assert (run.state, run.exitcode) == ("failed", 1)


async def test_rows_left_in_the_outbox_come_before_the_end() -> None:
    world = World()
    world.sink.gate = Once(post=UnavailableError("down"))
    await world.relay(3)
    assert world.cursor.outbox
    assert await world.close() == Closed(ended=1)
    assert world.steps == [1, 2, 3]
    assert world.sink.runs[RUN].state == "failed"


@pytest.mark.parametrize("call", ["post", "lost_post"])
async def test_end_is_sent_by_a_later_look_when_wandb_does_not_answer(call: str) -> None:
    world = World()
    await world.relay(3)
    world.sink.gate = Once(**{call: UnavailableError("down")})
    assert await world.close() == Closed(waiting=1)
    assert await world.close() == Closed(ended=1)
    run = world.sink.runs[RUN]
    assert run.state == "failed"
    assert [line for line in run.output if line.endswith(ACCOUNT_DELETED.text)] == [run.output[-1]]


async def test_rows_wait_and_the_job_goes_on_when_the_key_is_refused_at_the_end() -> None:
    world = World()
    world.sink.gate = Once(post=UnavailableError("down"))
    await world.relay(3)
    key = world.keys.key
    assert isinstance(key, RunKey)
    world.sink.refused.add(key.value.reveal())
    assert await world.close() == Closed(waiting=1)
    assert world.cursor.outbox, "rows that were claimed must not be lost"
    world.sink.refused.clear()
    await world.relay(4, now=NOW + 60)
    assert world.steps == [1, 2, 3, 4]


async def test_another_look_is_asked_for_when_a_pass_came_in_between() -> None:
    world = World()
    await world.relay(3)
    stale = await world.cursors.read(ACCOUNT.key, ["ftjob-1"])

    async def old_read(account: str, jobs: Any) -> Any:
        return stale

    await world.relay(4, now=NOW + 1)
    fresh_read, world.cursors.read = world.cursors.read, old_read  # type: ignore[method-assign]
    assert await world.close() == Closed(waiting=1)
    world.cursors.read = fresh_read  # type: ignore[method-assign]
    assert await world.close() == Closed(ended=1)
    assert world.steps == [1, 2, 3, 4]


async def test_finished_run_is_left_as_it_is() -> None:
    world = World()
    await world.relay(3, "succeeded")
    assert world.cursor.relay_state == "ending"
    assert await world.close() == Closed(ended=1)
    assert world.sink.runs[RUN].state == "finished"
    assert world.cursor.relay_state == "complete"


async def test_job_goes_on_in_the_same_run_when_the_account_is_there_again() -> None:
    world = World()
    await world.relay(3)
    await world.close()
    await world.relay(5, now=NOW + 60)
    assert world.steps == [1, 2, 3, 4, 5]
    assert world.cursor.relay_state == "live"
    assert world.cursor.error == ""
    await world.relay(6, "succeeded", now=NOW + 120)
    assert world.steps == [1, 2, 3, 4, 5, 6]
    assert (world.sink.runs[RUN].state, world.sink.runs[RUN].exitcode) == ("finished", 0)


async def test_late_message_leaves_the_job_when_its_account_is_gone_since() -> None:
    world = World()
    await world.relay(3)
    await world.close()
    await world.relay(4, now=NOW - 600)
    assert (world.cursor.relay_state, world.sink.runs[RUN].state) == ("detached", "failed")
    assert world.steps == [1, 2, 3]


async def test_only_the_named_jobs_are_closed_when_jobs_are_named() -> None:
    world = World()
    await world.relay(3)
    closed = await close_runs(ACCOUNT, world.ports, ACCOUNT_DELETED, now=NOW, jobs=["ftjob-2"])
    assert closed == Closed()
    assert world.sink.runs[RUN].state == "running"


async def test_job_goes_on_when_its_first_pass_back_was_refused() -> None:
    world = World()
    await world.relay(3)
    await world.close()
    world.jobs.gate = Once(list_events=DeniedError("no role yet", code="403"))
    await world.relay(4, now=NOW + 60)
    assert (world.cursor.relay_state, world.cursor.error) == ("parked", "no role yet")
    await world.relay(4, now=NOW + 180)
    assert (world.cursor.relay_state, world.steps) == ("live", [1, 2, 3, 4])
    assert world.sink.runs[RUN].state == "running"


async def test_row_of_another_version_is_left_as_it_is_when_its_account_is_gone() -> None:
    world = World()
    await world.relay(3)
    stored = world.cursors.stored[ACCOUNT.key, "ftjob-1"]
    stored.state = {**stored.state, "ledger": {"another": "shape"}}
    kept = dict(stored.state)
    assert await world.close() == Closed()
    assert world.cursors.stored[ACCOUNT.key, "ftjob-1"].state == kept
    assert await beat_runs(ACCOUNT, ["ftjob-1"], ports=world.ports, clock=lambda: NOW + 999) == 0


@pytest.mark.parametrize("call", ["post", "lost_post"])
async def test_run_of_a_job_that_is_skipped_now_ends_by_a_later_pass_when_wandb_is_down(
    call: str,
) -> None:
    world = World()
    await world.relay(3)
    raw = {"id": "ftjob-1", "status": "running", "created_at": 1_764_000_000}
    native = parse_job({**raw, "integrations": [{"type": "wandb", "wandb": {"project": "p"}}]})
    assert native is not None
    world.sink.gate = Once(**{call: UnavailableError("down")})
    for minute in (1, 2):
        await relay_account(
            ACCOUNT,
            [native],
            ports=world.ports,
            clock=lambda now=NOW + 60 * minute: now,
            options=RelayOptions(),
        )
    run = world.sink.runs[RUN]
    assert (world.cursor.relay_state, world.cursor.status) == ("skipped", "running")
    assert (run.state, world.steps, world.cursor.outbox) == ("failed", [1, 2, 3], b"")
