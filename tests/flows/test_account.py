"""One look at an account: what becomes of its runs when it is gone, and when it is back."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows.account import handle
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.messages import AccountMessage
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.relay.ports import RelayPorts
from tests import fakes
from tests.accounts.fakes import NOW, Entries, Topic, World, account, account_id, settings, world

ALPHA = account_id()


class Stage:
    """An account that was checked once, with one open job that has no run yet."""

    def __init__(self) -> None:
        self.azure: World = world()
        self.cursors = fakes.FakeCursors()
        self.queue = fakes.FakeQueue()
        relay = RelayPorts(fakes.FakeJobs(), self.cursors, fakes.FakeSink(), fakes.FakeKeys())
        self.app: Any = SimpleNamespace(
            settings=settings(),
            clock=NOW.timestamp,
            now=lambda: NOW,
            telemetry=NoTelemetry(),
            reconcile=self.azure.ports(),
            relay=relay,
            accounts=Entries(self.azure),
            notices=Topic(self.azure),
            queues=self.queue,
        )

    async def ready(self) -> None:
        await self.look()
        await self.cursors.save([Cursor(ALPHA.key, "ftjob-1", relay_state="live")])

    async def look(self, *, apply: bool = True) -> None:
        # A second look within moments would share what the first one read.
        self.app.reconcile = self.azure.ports()
        await handle(AccountMessage(account=str(ALPHA), apply=apply), self.app)

    def delete(self) -> None:
        self.azure.accounts.clear()

    def recover(self, **more: Any) -> None:
        self.azure.accounts[ALPHA.key] = account(**more)

    async def waits(self) -> bool:
        """Return whether the job waits for its account."""
        (seen,) = await self.cursors.seen(ALPHA.key)
        return seen.relay_state == "parked" and seen.retry_at > NOW.timestamp() + 86_400


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.ready()
    return made


async def test_job_waits_when_its_account_is_gone_and_goes_on_when_it_is_back(
    stage: Stage,
) -> None:
    stage.delete()
    await stage.look()
    assert await stage.waits()
    stage.recover()
    await stage.look()
    assert not await stage.waits()


async def test_nothing_is_reopened_or_lost_when_the_first_look_only_checks(stage: Stage) -> None:
    stage.delete()
    await stage.look()
    stage.recover()
    await stage.look(apply=False)
    assert await stage.waits()
    await stage.look()
    assert not await stage.waits()


async def test_job_goes_on_when_the_account_came_back_opted_out_and_opts_in(stage: Stage) -> None:
    stage.delete()
    await stage.look()
    stage.recover(tags={"wandb-integration": "off"})
    await stage.look()
    assert await stage.waits()
    stage.recover()
    await stage.look()
    assert not await stage.waits()


async def test_job_goes_on_when_the_host_died_before_it_was_reopened(stage: Stage) -> None:
    stage.delete()
    await stage.look()
    stage.recover()
    stage.cursors.gate = fakes.Once(seen=UnavailableError("the host died here"))
    with pytest.raises(UnavailableError):
        await stage.look()
    assert await stage.waits()
    await stage.look()
    assert not await stage.waits()
