"""Messages survive crashes: sent again by a tick, left by the late original, kept when they fail."""

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from finetune_wandb.flows import work
from finetune_wandb.flows.app import Pause
from finetune_wandb.model.errors import RejectedError
from finetune_wandb.model.messages import AccountMessage, RelayMessage, RequeueMessage
from finetune_wandb.model.work import ALIVE_S, MOST_DEATHS, RECONCILE, RELAY, REMEMBER_S, work_of
from tests.fakes import FakeProblems, FakeQueue, FakeWork, relay_account

ACCOUNT = str(relay_account().id)
BODY = AccountMessage(account=ACCOUNT, trigger="drift", sent_at=5.0).to_json()
WORK = work_of(RECONCILE, BODY)
LEASE_S = 600.0


class HostDiedError(BaseException):
    """The process is gone: nothing after it runs."""


class Stage:
    def __init__(self) -> None:
        self.now = 1000.0
        self.done: list[str] = []
        self.table, self.queue, self.problems = FakeWork(), FakeQueue(), FakeProblems()
        self.app: Any = SimpleNamespace(
            work=self.table,
            queues=self.queue,
            problems=self.problems,
            clock=lambda: self.now,
            poison_looks=Pause(600.0),
        )

    async def deliver(
        self, delivery: str, error: BaseException | None = None, body: bytes = BODY
    ) -> bool:
        """Deliver a message; it ends with the error. Return whether its work was done."""
        async with work.begun(delivery, work_of(RECONCILE, body), self.app) as is_wanted:
            if is_wanted:
                self.done.append(delivery)
                if error:
                    raise error
        return is_wanted

    async def die(self, delivery: str) -> None:
        """Have the process die in the middle of a message: nothing of it runs any more."""
        is_wanted, row = await work._begin(delivery, WORK, self.app)
        assert is_wanted
        assert row

    async def tick(self) -> list[dict[str, Any]]:
        """Look after what is open; return what was sent."""
        self.queue.sent.clear()
        await work.look_after(self.app)
        return self.queue.sent


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_nothing_is_left_when_a_message_was_done(stage: Stage) -> None:
    assert await stage.deliver("one")
    assert stage.table.rows == {}
    assert await stage.deliver("one")


async def test_queue_has_its_way_when_a_message_failed(stage: Stage) -> None:
    for _ in range(2):
        with pytest.raises(RejectedError):
            await stage.deliver("one", RejectedError("no"))
    assert stage.table.rows == {}
    assert await stage.tick() == []


async def test_message_is_sent_again_within_two_minutes_when_its_process_died(
    stage: Stage,
) -> None:
    await stage.die("one")
    began, sent = stage.now, False
    while not sent:
        stage.now += 60
        sent = bool(await stage.tick())
    assert stage.now - began <= 120
    assert stage.queue.sent == [orjson.loads(BODY)]
    assert stage.queue.queues == [RECONCILE]
    assert await stage.tick() == []  # the copy may wait in its queue


async def test_original_is_left_when_it_comes_back_after_its_copy_was_done(stage: Stage) -> None:
    await stage.die("one")
    stage.now += 60
    await stage.tick()
    assert await stage.deliver("copy")
    stage.now = 1000 + LEASE_S
    assert not await stage.deliver("one")
    assert stage.done == ["copy"]
    # Another message with the same text is new work.
    assert await stage.deliver("later")


async def test_work_is_forgotten_when_its_original_can_not_come_back_any_more(
    stage: Stage,
) -> None:
    await stage.die("one")
    stage.now += 60
    await stage.tick()
    await stage.deliver("copy")
    stage.now += LEASE_S
    assert await stage.tick() == []
    assert stage.table.rows
    stage.now += REMEMBER_S
    await stage.tick()
    assert stage.table.rows == {}


async def test_original_is_left_while_its_copy_is_at_work(stage: Stage) -> None:
    await stage.die("one")
    stage.now += 60
    await stage.tick()
    await stage.die("copy")
    assert not await stage.deliver("one")
    assert stage.done == []


async def test_message_is_begun_again_at_once_when_its_queue_brings_it_back(stage: Stage) -> None:
    await stage.die("one")
    stage.now += 1
    assert await stage.deliver("one")
    assert not await stage.deliver("one")


async def test_another_message_is_done_when_one_of_the_same_text_is_at_work(stage: Stage) -> None:
    await stage.die("one")
    assert await stage.deliver("two")
    assert stage.table.rows  # the first one's


async def test_long_work_is_not_sent_again_while_it_gives_signs_of_life(stage: Stage) -> None:
    await stage.die("one")
    (row,) = stage.table.rows.values()
    stage.now += 300
    await stage.table.write(work.replace(row, alive_at=stage.now - ALIVE_S + 1))
    assert await stage.tick() == []


async def test_message_is_kept_with_its_cause_when_processes_keep_dying_with_it(
    stage: Stage,
) -> None:
    sent = 0
    for number in range(40):
        if await stage.tick():
            sent += 1
            await stage.die(f"try {number}")
        elif not sent:
            await stage.die("first")
            sent = 1
        stage.now += 120
    assert sent == 2 * MOST_DEATHS
    (aside,) = stage.table.aside.values()
    assert aside.body == BODY
    assert aside.problem
    assert aside.problem.subject == ACCOUNT
    assert "/api/resync" in aside.problem.remedy
    assert stage.table.rows == {}


async def test_innocent_message_is_sent_once_more_when_it_is_in_the_poison_queue(
    stage: Stage,
) -> None:
    stage.queue.poison = [(RECONCILE, BODY)]
    assert await stage.tick() == [orjson.loads(BODY)]
    assert stage.queue.poison == []
    stage.now += 60
    assert await stage.deliver("again")
    stage.now += 600
    assert await stage.tick() == []
    assert stage.table.aside == {}


async def test_message_is_kept_with_its_body_when_it_is_in_the_poison_queue_again(
    stage: Stage,
) -> None:
    for _ in range(2):
        stage.queue.poison = [(RECONCILE, BODY)]
        await stage.tick()
        stage.now += 600
    assert stage.queue.poison == []
    (aside,) = stage.table.aside.values()
    assert aside.body == BODY


async def test_recorded_message_is_only_removed_when_it_is_in_the_poison_queue(
    stage: Stage,
) -> None:
    await work.set_aside(WORK, RejectedError("too large"), stage.app)
    stage.queue.poison = [(RECONCILE, BODY)]
    assert await stage.tick() == []
    assert stage.queue.poison == []
    (aside,) = stage.table.aside.values()
    assert aside.problem
    assert aside.problem.cause == "too large"


async def test_poison_queues_are_looked_at_every_ten_minutes(stage: Stage) -> None:
    await stage.tick()
    stage.queue.poison = [(RECONCILE, BODY)]
    await stage.tick()
    assert stage.queue.poison
    stage.now += 600
    await stage.tick()
    assert stage.queue.poison == []


async def test_text_is_kept_when_no_message_can_be_read_from_it(stage: Stage) -> None:
    stage.queue.poison = [(RECONCILE, b"not ours")]
    await stage.tick()
    (aside,) = stage.table.aside.values()
    assert aside.body == b"not ours"


async def test_job_message_is_only_reported_when_ticks_send_its_jobs_again(stage: Stage) -> None:
    message = RelayMessage(account=ACCOUNT, jobs=[{"id": "ftjob-1"}], trigger="timer")
    stage.queue.poison = [(RELAY, message.to_json())]
    assert await stage.tick() == []
    assert stage.queue.poison == []
    ((_, subject, _),) = stage.problems.known
    assert subject == ACCOUNT


async def test_everything_is_put_back_when_it_is_asked_for(stage: Stage) -> None:
    other = RequeueMessage(sent_at=7.0).to_json()
    await work.set_aside(WORK, RejectedError("too large"), stage.app)
    stage.queue.poison = [(RECONCILE, other)]
    assert await work.put_back(stage.app) == 1
    assert stage.queue.sent == [orjson.loads(other), orjson.loads(BODY)]
    assert stage.queue.delays == [0.0, 0.0]
    assert stage.table.aside == {}


async def test_message_is_sent_once_when_the_poison_queue_has_its_text_twice(stage: Stage) -> None:
    stage.queue.poison = [(RECONCILE, BODY), (RECONCILE, BODY)]
    assert await stage.tick() == [orjson.loads(BODY)]
    assert stage.queue.poison == []
    assert stage.table.aside == {}


async def test_message_is_kept_when_its_second_round_never_began(stage: Stage) -> None:
    stage.queue.poison = [(RECONCILE, BODY)]
    await stage.tick()
    stage.now += 600
    assert await stage.tick() == []
    stage.now += REMEMBER_S
    assert await stage.tick() == []
    (aside,) = stage.table.aside.values()
    assert aside.body == BODY
    assert stage.table.rows == {}
