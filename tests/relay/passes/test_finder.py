"""Finding work: one listing an account, nothing for what is over, one bad account apart."""

import asyncio
from typing import Any

import pytest

from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.work import BACKFILL, RELAY
from finetune_wandb.relay.passes.finder import Finder
from finetune_wandb.relay.ports import JOBS_PER_MESSAGE
from tests.fakes import FakeCursors, FakeJobs, FakeQueue, Once, Open, relay_account

NOW = 1_764_000_000.0
ACCOUNT = relay_account()


class Stage:
    def __init__(self) -> None:
        self.jobs, self.cursors, self.queue = FakeJobs(), FakeCursors(), FakeQueue()
        self.finder = self.another()
        self.now = NOW

    def another(self, **more: Any) -> Finder:
        """Return the finder of another process."""
        return Finder(self.jobs, self.cursors, self.queue, **more)

    async def tick(self, *accounts: Any) -> Any:
        self.jobs.calls.clear()
        self.cursors.calls.clear()
        self.queue.sent.clear()
        self.queue.queues.clear()
        return await self.finder.tick(accounts or (ACCOUNT,), clock=lambda: self.now)

    async def know(
        self, job: str, state: Any, retry_at: float = 0.0, status: str = "", run: str = ""
    ) -> None:
        known = await self.cursors.read(ACCOUNT.key, [job])
        cursor = known.get(job) or Cursor(ACCOUNT.key, job)
        cursor.relay_state, cursor.retry_at, cursor.status = RelayState(state), retry_at, status
        cursor.run = RunPath("team", "proj", run) if run else None
        await self.cursors.save([cursor])

    def sent(self, trigger: str = "timer") -> list[str]:
        """Return the jobs that are on their way to workers."""
        sent = [one for one in self.queue.sent if one["trigger"] == trigger]
        return [job["id"] for one in sent for job in one["jobs"]]

    def sent_to(self, queue: str) -> list[str]:
        found = zip(self.queue.sent, self.queue.queues, strict=True)
        return [job["id"] for one, name in found if name == queue for job in one["jobs"]]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def put(stage: Stage, *ids: Any, **more: Any) -> None:
    for one in ids:
        stage.jobs.put({"id": one, "status": "running"} | more)


async def test_idle_tick_makes_one_call_when_every_job_is_complete(stage: Stage) -> None:
    put(stage, *(f"j{n}" for n in range(50)))
    for n in range(50):
        await stage.know(f"j{n}", "complete")
    await stage.tick()
    found = await stage.tick()
    assert (stage.jobs.calls, stage.cursors.calls, stage.queue.sent) == (["list_jobs"], [], [])
    assert found.messages == 0


async def test_only_the_first_page_is_read_when_the_rest_is_over(stage: Stage) -> None:
    stage.jobs.page_size = 10
    put(stage, *(f"j{n}" for n in range(100)))
    for n in range(100):
        await stage.know(f"j{n}", "complete")
    await stage.tick()
    assert len(stage.jobs.calls) == 10
    put(stage, "new")
    await stage.tick()
    assert stage.sent() == ["new"]
    assert len(stage.jobs.calls) <= 2


async def test_new_job_is_found_at_once_when_the_listing_is_oldest_first(stage: Stage) -> None:
    stage.jobs.page_size = 10
    # The fake lists what was put last first.
    for n in range(30, 0, -1):
        put(stage, f"j{n}", created_at=NOW - 1000 + n)
        await stage.know(f"j{n}", "complete")
    await stage.tick()
    await stage.tick()
    assert stage.sent() == []
    newest = {"id": "new", "status": "running", "created_at": NOW}
    old = dict(stage.jobs.jobs)
    stage.jobs.jobs.clear()
    stage.jobs.put(newest)
    stage.jobs.jobs.update(old)
    await stage.tick()
    assert stage.sent() == ["new"]


async def test_old_running_job_is_found_when_newer_ones_are_complete(stage: Stage) -> None:
    stage.jobs.page_size = 5
    put(stage, "old", *(f"j{n}" for n in range(20)))
    for n in range(20):
        await stage.know(f"j{n}", "complete")
    for _ in range(3):
        await stage.tick()
        assert stage.sent() == ["old"]


async def test_ended_job_is_left_when_it_is_not_its_time(stage: Stage) -> None:
    put(stage, "parked", "due", "ending", "skipped", status="succeeded")
    await stage.know("parked", "parked", NOW + 60)
    await stage.know("due", "parked", NOW - 60)
    await stage.know("skipped", "skipped", status="succeeded")
    await stage.know("ending", "ending", NOW + 5)
    await stage.tick()
    assert stage.sent() == ["due"]
    stage.now += 61
    await stage.tick()
    assert sorted(stage.sent()) == ["due", "ending", "parked"]


async def test_ended_job_is_sent_with_every_tick_when_it_is_parked_with_an_open_run(
    stage: Stage,
) -> None:
    """Its run must hear a heartbeat, or W&B calls it crashed."""
    put(stage, "open", "never", status="succeeded")
    await stage.know("open", "parked", NOW + 3600, run="open")
    await stage.know("never", "parked", NOW + 3600)
    for _ in range(3):
        await stage.tick()
        assert stage.sent() == ["open"]


async def test_jobs_that_were_over_at_first_sight_do_not_delay_live_ones(stage: Stage) -> None:
    put(stage, *(f"old{n}" for n in range(50)), status="succeeded")
    put(stage, "live")
    await stage.tick()
    assert stage.sent_to(RELAY) == ["live"]
    assert len(stage.sent_to(BACKFILL)) == 50
    # They may wait in their queue still; after two minutes they count as lost.
    stage.now += 60
    await stage.tick()
    assert stage.sent() == ["live"]
    stage.now += 60
    await stage.tick()
    assert len(stage.sent()) == 51


async def test_job_that_left_the_listing_is_sent_to_be_read(stage: Stage) -> None:
    put(stage, "gone", "here")
    await stage.know("gone", "live")
    await stage.know("here", "live")
    await stage.tick()
    del stage.jobs.jobs["gone"]
    for finder in (stage.finder, stage.another()):
        stage.finder = finder
        await stage.tick()
        assert (stage.sent("missing"), stage.sent()) == (["gone"], ["here"])
    await stage.know("gone", "detached")
    await stage.tick()
    assert stage.sent("missing") == []


async def test_open_runs_get_a_heartbeat_when_the_account_cannot_be_listed(stage: Stage) -> None:
    put(stage, "live", "over")
    await stage.know("live", "live", run="live")
    await stage.know("over", "complete")
    for finder in (stage.finder, stage.another()):
        stage.finder = finder
        stage.jobs.gate = Once(list_jobs=UnavailableError("down"))
        found = await stage.tick()
        assert list(found.failures) == [ACCOUNT.key]
        assert (stage.sent("beat"), stage.sent()) == (["live"], [])


async def test_messages_are_counted_for_every_account_when_many_are_listed_together(
    stage: Stage,
) -> None:
    class Network(Open):
        async def before(self, call: str) -> None:
            await asyncio.sleep(0.001)

    accounts = [relay_account(f"aoai-{number}") for number in range(40)]
    for account in accounts:
        stage.jobs.owner = account.key
        put(stage, f"job of {account.name}")
    stage.jobs.gate = stage.cursors.gate = Network()
    found = await stage.tick(*accounts)
    assert found.messages == len(stage.queue.sent) == 40


async def test_jobs_travel_in_bounded_messages_when_there_are_many(stage: Stage) -> None:
    put(stage, *(f"j{n}" for n in range(50)), hyperparameters={"text": "x" * 3000})
    put(stage, "huge", result_files=[f"file-{n}" for n in range(9000)])
    await stage.tick()
    assert sorted(stage.sent()) == sorted([*(f"j{n}" for n in range(50)), "huge"])
    assert all(len(message["jobs"]) <= JOBS_PER_MESSAGE for message in stage.queue.sent)
    assert all(len(repr(message)) < 48_000 for message in stage.queue.sent)
    assert {"id": "huge"} in [job for message in stage.queue.sent for job in message["jobs"]]


async def test_job_travels_once_when_the_listing_moved_while_it_was_read(stage: Stage) -> None:
    put(stage, "a", "b")

    class Twice(FakeJobs):
        async def list_jobs(
            self, account: Any, after: Any, limit: int, *, known: bytes = b""
        ) -> Any:
            listing = await super().list_jobs(account, after, limit, known=known)
            return type(listing)([*listing.items, *listing.items], listing.has_more)

    twice = Twice()
    twice.jobs = stage.jobs.jobs
    await Finder(twice, stage.cursors, stage.queue).tick([ACCOUNT], clock=lambda: NOW)
    assert sorted(stage.sent()) == ["a", "b"]


@pytest.mark.parametrize("bad", [None, 5, [], {}, "", "  ", "x" * 5000], ids=repr)
async def test_good_jobs_are_sent_when_one_object_is_no_job(stage: Stage, bad: Any) -> None:
    class Odd(FakeJobs):
        async def list_jobs(
            self, account: Any, after: Any, limit: int, *, known: bytes = b""
        ) -> Any:
            listing = await super().list_jobs(account, after, limit, known=known)
            return type(listing)([{"id": bad}, *listing.items, {"id": bad}], False)

    odd = Odd()
    odd.put({"id": "good", "status": "running"})
    found = await Finder(odd, stage.cursors, stage.queue).tick([ACCOUNT], clock=lambda: NOW)
    assert stage.sent() == ["good"]
    assert found.failures == {}


@pytest.mark.parametrize("error", [UnavailableError("down", subject="x"), ValueError("a bug")])
async def test_other_accounts_are_served_when_one_cannot_be_listed(
    stage: Stage, error: Exception
) -> None:
    other = relay_account("aoai-two")
    stage.jobs.owner = other.key
    put(stage, "a")
    stage.jobs.gate = Once(list_jobs=error)
    found = await stage.tick(ACCOUNT, other)
    assert list(found.failures) == [ACCOUNT.key]
    assert found.messages == 1
    found = await stage.tick(ACCOUNT, other)
    assert found.failures == {}
    assert [account for account, _ in found.recovered] == [ACCOUNT.key]


async def test_messages_hold_nothing_private_when_job_objects_do(stage: Stage) -> None:
    grader = {"source": "SECRET-SOURCE", "headers": {"x-functions-key": "SECRET-KEY"}}
    put(
        stage,
        "a",
        method={"type": "reinforcement", "reinforcement": {"grader": grader}},
        user_provided={"x": "SECRET-OTHER"},
        model={"nested": "SECRET-MODEL"},
    )
    await stage.tick()
    assert "SECRET" not in repr(stage.queue.sent)


async def test_only_rows_of_jobs_that_are_over_are_read(stage: Stage) -> None:
    put(stage, "live", "parked", "new")
    put(stage, "over", status="succeeded")
    await stage.know("live", "live")
    await stage.know("over", "live")
    await stage.know("parked", "parked", stage.now + 3600)
    await stage.tick()
    assert stage.cursors.calls == ["seen"]
    await stage.tick()
    assert stage.cursors.calls == ["seen over"]
    # A parked job that lives is sent too: its run must hear a heartbeat.
    assert sorted(stage.sent()) == ["live", "new", "over", "parked"]


async def test_an_account_with_many_such_jobs_is_read_whole(stage: Stage) -> None:
    stage.jobs.page_size = 500
    put(stage, *(f"j{number}" for number in range(200)), status="succeeded")
    await stage.tick()
    await stage.tick()
    assert stage.cursors.calls == ["seen"]


async def test_items_that_are_no_jobs_are_counted_when_a_list_holds_some(stage: Stage) -> None:
    put(stage, "good", "", " ")
    found = await stage.tick()
    assert stage.sent() == ["good"]
    assert (
        found.oddities[ACCOUNT.key].message == "2 items of the job list could not be read as jobs"
    )
    assert found.failures == {}
    # Named for as long as it is so, also when all the others are over.
    await stage.know("good", "complete")
    assert ACCOUNT.key in (await stage.tick()).oddities
    assert ACCOUNT.key in (await stage.tick()).oddities
    del stage.jobs.jobs[""], stage.jobs.jobs[" "]
    found = await stage.tick()
    assert [account for account, _ in found.recovered] == [ACCOUNT.key]


NATIVE = [{"type": "wandb", "wandb": {"project": "p"}}]


async def test_skipped_job_is_sent_until_its_status_is_stored(stage: Stage) -> None:
    """Its status is all that people see of it here; a message that is lost is sent again."""
    put(stage, "native", integrations=NATIVE)
    await stage.know("native", "skipped", status="queued")
    for status in ("running", "paused", "succeeded"):
        put(stage, "native", status=status, integrations=NATIVE)
        for finder in (stage.finder, stage.another()):
            stage.finder = finder
            await stage.tick()
            assert stage.sent() == ["native"]
        await stage.know("native", "skipped", status=status)
        await stage.tick()
        assert stage.sent() == []
    await stage.tick()
    assert (stage.jobs.calls, stage.cursors.calls) == (["list_jobs"], [])


async def test_skipped_job_is_found_when_native_jobs_are_skipped_no_longer(stage: Stage) -> None:
    put(stage, "native", "over", status="succeeded", finished_at=NOW - 100_000)
    await stage.know("native", "skipped", status="succeeded")
    await stage.know("over", "complete")
    await stage.tick()
    assert stage.sent() == []
    stage.finder = stage.another(skip_native=False)
    await stage.tick()
    assert stage.sent() == ["native"]


async def test_other_accounts_are_relayed_and_the_cause_shown_when_one_hangs(stage: Stage) -> None:
    class Hangs(FakeJobs):
        async def list_jobs(self, account: Any, *args: Any, **more: Any) -> Any:
            if account.name == "hangs":
                await asyncio.Event().wait()
            return await super().list_jobs(account, *args, **more)

    hanging = Hangs()
    hanging.put({"id": "ftjob-1", "status": "running"})
    finder = Finder(hanging, stage.cursors, stage.queue, page_s=0.05)
    other = relay_account("hangs")
    found = await finder.tick([other, ACCOUNT], clock=lambda: NOW)
    assert stage.sent() == ["ftjob-1"]
    assert "did not list the jobs" in found.failures[other.key].message
