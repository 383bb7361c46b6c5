"""A re-sync whose host dies, whose messages come twice, late or never to an end."""

from dataclasses import replace

import pytest

from finetune_wandb.flows import resync
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.messages import RelayMessage, ResyncMessage
from finetune_wandb.model.resync import ResyncItem, ResyncRequest, is_done
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.ports import JOBS_PER_MESSAGE, RelayOptions
from handlers.resync import view
from tests.flows.resync_stage import ACCOUNT, ID, HostDiedError, Stage

MANY = 3 * JOBS_PER_MESSAGE - 2


async def work(stage: Stage, state: str = "ending") -> None:
    """Work on every message that was sent, until there is none."""
    while messages := stage.messages():
        for message in messages:
            outcomes = [JobOutcome(raw["id"], state) for raw in message.jobs]
            await resync.jobs_done(message, outcomes, stage.app)


def counts(stage: Stage) -> tuple[int, int, int]:
    items = list(stage.items.values())
    shown = view(stage.resyncs.heads[ID], items, now=stage.now)
    return shown["total"], shown["done"], shown["failed"]


@pytest.mark.parametrize("dies_at", range(1, 6))
async def test_all_jobs_are_done_once_when_host_dies_at_a_write(dies_at: int) -> None:
    stage = Stage(jobs=MANY)  # three messages: writes 1 to 3, listed 4, done 5
    stage.put_account_item()
    stage.resyncs.dies_at = dies_at
    with pytest.raises(HostDiedError):
        await resync.handle_account(stage.message, stage.app)
    # Meanwhile the listing moved: every message would begin with other jobs.
    stage.add_newest(5)
    await resync.handle_account(stage.message, stage.app)
    await work(stage)
    stage.spread()
    jobs = MANY + 5 if dies_at < 5 else MANY
    assert counts(stage) == (jobs + 1, jobs + 1, 0)
    assert is_done(*(await stage.resyncs.read(ID) or ()))


@pytest.mark.parametrize("dies_at", range(1, 4))
async def test_all_jobs_are_done_once_when_host_dies_while_sending(dies_at: int) -> None:
    stage = Stage(jobs=MANY)
    stage.put_account_item()
    stage.relay_queue.dies_at = dies_at
    with pytest.raises(HostDiedError):
        await resync.handle_account(stage.message, stage.app)
    stage.add_newest(5)
    await resync.handle_account(stage.message, stage.app)
    await work(stage)
    assert counts(stage) == (MANY + 1, MANY + 1, 0)


async def test_leftover_items_go_when_a_second_listing_is_shorter() -> None:
    stage = Stage(jobs=5 * JOBS_PER_MESSAGE)
    stage.put_account_item()
    stage.resyncs.dies_at = 6  # when all is stored and not yet marked as listed
    with pytest.raises(HostDiedError):
        await resync.handle_account(stage.message, stage.app)
    assert len(stage.job_items) == 5
    stage.seen = {raw["id"]: "complete" for raw in stage.jobs[20:]}
    await resync.handle_account(stage.message, stage.app)
    await work(stage)
    assert counts(stage) == (21, 21, 0)


@pytest.mark.parametrize(("skips", "sent"), [(True, 1), (False, 2)])
async def test_skipped_jobs_are_taken_when_native_jobs_are_relayed_now(
    skips: bool, sent: int
) -> None:
    stage = Stage(jobs=3)
    stage.app.options = RelayOptions(skip_native=skips)
    first, second, _ = (raw["id"] for raw in stage.jobs)
    stage.seen = {first: "complete", second: "skipped"}
    stage.put_account_item()
    await resync.handle_account(stage.message, stage.app)
    (message,) = stage.messages()
    assert len(message.jobs) == sent


async def test_nothing_is_sent_when_message_comes_again_after_its_end() -> None:
    stage = Stage(jobs=3)
    stage.put_account_item()
    await resync.handle_account(stage.message, stage.app)
    assert len(stage.messages()) == 1
    await resync.handle_account(stage.message, stage.app)
    assert stage.messages() == []


async def test_accounts_keep_their_progress_when_spread_twice() -> None:
    stage = Stage(jobs=3)
    stage.resyncs.dies_at = 2  # before the head says that all accounts are known
    with pytest.raises(HostDiedError):
        await resync.spread(ResyncMessage(resync=ID), stage.app)
    await resync.handle_account(stage.message, stage.app)
    await work(stage)
    await resync.spread(ResyncMessage(resync=ID), stage.app)
    assert len(stage.reconcile_queue.sent) == 2
    assert counts(stage) == (4, 4, 0)
    await resync.spread(ResyncMessage(resync=ID), stage.app)
    assert len(stage.reconcile_queue.sent) == 2


async def one_message(stage: Stage) -> RelayMessage:
    stage.put_account_item()
    await resync.handle_account(stage.message, stage.app)
    (message,) = stage.messages()
    return message


async def test_progress_does_not_go_back_when_a_late_pass_fails() -> None:
    stage = Stage(jobs=2)
    message = await one_message(stage)
    fine = [JobOutcome("ftjob-000", "ending"), JobOutcome("ftjob-001", "ending")]
    await resync.jobs_done(message, fine, stage.app)
    bad = [JobOutcome(one.job, "parked", error="no key") for one in fine]
    await resync.jobs_done(message, bad, stage.app)
    assert counts(stage) == (3, 3, 0)


@pytest.mark.parametrize(
    "outcome",
    [
        JobOutcome("ftjob-000", "live", error="W&B is away", temporary=True),
        JobOutcome("ftjob-000", "overtaken"),
        JobOutcome("ftjob-000", "new", error="the run was deleted"),
    ],
    ids=["temporary", "overtaken", "started over"],
)
async def test_job_is_sent_again_when_it_may_still_succeed(outcome: JobOutcome) -> None:
    stage = Stage(jobs=2)
    message = await one_message(stage)
    other = JobOutcome("ftjob-001", "complete")
    await resync.jobs_done(message, [outcome, other], stage.app)
    assert counts(stage) == (3, 2, 0)
    (again,) = stage.messages()
    assert (again.jobs, again.attempt) == ([{"id": "ftjob-000"}], 1)
    assert stage.relay_queue.delays[-1] > 0


async def test_job_fails_with_its_remedy_when_it_never_succeeds() -> None:
    stage = Stage(jobs=1)
    bad = JobOutcome("ftjob-000", "live", error="W&B is away", remedy="wait", temporary=True)
    messages = [await one_message(stage)]
    tries = 0
    while messages and tries < 20:
        tries += 1
        await resync.jobs_done(messages[0], [bad], stage.app)
        messages = stage.messages()
    assert 3 < tries < 10
    (item,) = stage.job_items
    assert item.state == "failed"
    assert item.results == [{"job": "ftjob-000", "error": "W&B is away", "remedy": "wait"}]


async def test_job_fails_when_no_outcome_names_it() -> None:
    stage = Stage(jobs=1)
    await resync.jobs_done(await one_message(stage), [], stage.app)
    assert counts(stage) == (2, 1, 1)


async def test_items_end_when_their_messages_are_set_aside() -> None:
    stage = Stage(jobs=2)
    message = await one_message(stage)
    away = UnavailableError("storage is away", remedy="wait")
    await resync.give_up(message, away, stage.app)
    (item,) = stage.job_items
    assert (item.state, item.failed) == ("failed", 2)
    assert item.results[0]["remedy"] == "wait"


async def test_account_ends_when_its_message_is_set_aside() -> None:
    stage = Stage(jobs=2)
    stage.put_account_item()
    away = UnavailableError("storage is away", remedy="wait")
    await resync.give_up(stage.message, away, stage.app)
    assert stage.account_item.state == "failed"
    assert stage.account_item.results[0]["remedy"] == "wait"


async def test_resync_ends_when_its_accounts_can_never_be_listed() -> None:
    stage = Stage()
    message = ResyncMessage(resync=ID)
    await resync.give_up(message, UnavailableError("ARM is away"), stage.app)
    assert is_done(*(await stage.resyncs.read(ID) or ()))
    assert counts(stage) == (1, 0, 1)


async def test_account_fails_when_its_job_is_not_there() -> None:
    stage = Stage(jobs=1, scope="job", job="ftjob-none")
    stage.put_account_item()
    await resync.handle_account(stage.message, stage.app)
    assert stage.account_item.state == "failed"
    assert "no such job" in stage.account_item.results[0]["error"]
    assert stage.messages() == []


async def test_spread_is_sent_again_when_a_joined_resync_is_not_spread() -> None:
    stage = Stage()
    request = ResyncRequest(scope="account", account=str(ACCOUNT.id))
    first = await resync.start(request, stage.app, requested_by="")
    assert (await resync.start(request, stage.app, requested_by="")).id == first.id
    assert len(stage.reconcile_queue.sent) == 1
    stage.now += 61
    assert (await resync.start(request, stage.app, requested_by="")).id == first.id
    assert len(stage.reconcile_queue.sent) == 2
    await resync.spread(ResyncMessage(resync=first.id), stage.app)
    stage.reconcile_queue.sent.clear()
    assert (await resync.start(request, stage.app, requested_by="")).id == first.id
    assert stage.reconcile_queue.sent == []
    stage.now += 2 * 86_400
    assert (await resync.start(request, stage.app, requested_by="")).id != first.id


async def test_predecessor_is_removed_when_the_same_is_requested_after_its_end() -> None:
    stage = Stage()
    first = await resync.start(stage.head.request, stage.app, requested_by="")
    stage.resyncs.heads[first.id] = replace(first, spread=True)
    second = await resync.start(stage.head.request, stage.app, requested_by="")
    assert second.id != first.id
    assert set(stage.resyncs.heads) == {ID, second.id}


async def test_set_aside_messages_are_taken_up_only_when_all_is_applied() -> None:
    for request, wanted in (
        (ResyncRequest(), ["requeue", "resync"]),
        (ResyncRequest(mode="check"), ["resync"]),
        (ResyncRequest(scope="account", account=str(ACCOUNT.id)), ["resync"]),
    ):
        stage = Stage()
        await resync.start(request, stage.app, requested_by="")
        assert [one["kind"] for one in stage.reconcile_queue.sent] == wanted


def test_time_left_follows_from_the_rate() -> None:
    stage = Stage()
    stage.items["jobs"] = ResyncItem(name="jobs", account="", total=10, done=4, failed=1)
    stage.spread()
    shown = view(stage.resyncs.heads[ID], list(stage.items.values()), now=stage.now + 10)
    assert (shown["rate_per_s"], shown["left_s"], shown["state"]) == (0.5, 10, "running")
