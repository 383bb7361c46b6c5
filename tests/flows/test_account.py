"""One look at an account: what becomes of its runs when it is gone, and when it is back."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows.account import handle
from finetune_wandb.model.errors import DeniedError
from finetune_wandb.model.messages import AccountMessage
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.relay.passes.closing import ACCOUNT_DELETED, OUT_OF_SCOPE
from finetune_wandb.relay.ports import RelayPorts
from tests import fakes
from tests.fakes import (
    NOW,
    FakeAccountTable,
    FakeTopic,
    World,
    account,
    account_id,
    settings,
    world,
)

ALPHA = account_id()


class Stage:
    """An account that was checked once, with one open job that has no run yet."""

    def __init__(self) -> None:
        self.azure: World = world()
        self.cursors = fakes.FakeCursors()
        self.queue = fakes.FakeQueue()
        relay = RelayPorts(
            fakes.FakeJobs(),
            self.cursors,
            fakes.FakeSink(),
            fakes.FakeKeys(),
            new_id=fakes.short_id,
        )
        self.app: Any = SimpleNamespace(
            settings=settings(),
            clock=NOW.timestamp,
            now=lambda: NOW,
            telemetry=NoTelemetry(),
            reconcile=self.azure.ports(),
            relay=relay,
            accounts=FakeAccountTable(self.azure),
            notices=FakeTopic(self.azure),
            queues=self.queue,
        )

    async def ready(self) -> None:
        await self.look()
        await self.cursors.save([Cursor(ALPHA.key, "ftjob-1", relay_state=RelayState.LIVE)])

    async def look(self, *, apply: bool = True) -> None:
        # A second look within moments would share what the first one read.
        self.app.reconcile = self.azure.ports()
        await handle(AccountMessage(account=str(ALPHA), apply=apply), self.app)

    def delete(self) -> None:
        self.azure.accounts.clear()

    def recover(self, **more: Any) -> None:
        self.azure.accounts[ALPHA.key] = account(**more)

    async def state(self) -> tuple[str, str]:
        cursors = await self.cursors.read(ALPHA.key, ["ftjob-1"])
        return cursors["ftjob-1"].relay_state, cursors["ftjob-1"].error


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.ready()
    return made


async def test_runs_end_with_the_cause_when_the_account_is_deleted(stage: Stage) -> None:
    stage.delete()
    await stage.look()
    assert await stage.state() == ("detached", ACCOUNT_DELETED.text)
    stage.recover()
    await stage.look()
    # The relay's next pass over the listed job takes its run up again.
    assert (await stage.state())[0] == "detached"


@pytest.mark.parametrize(
    "tags",
    [
        {"wandb-integration": "off"},
        {"wandb-integration": "onn"},
        {"wandb-key-vault-url": "https://kv-x.vault.azure.net"},
    ],
    ids=["opted out", "mistyped", "vault not allowed"],
)
async def test_runs_end_with_the_cause_when_the_account_leaves_the_scope(
    stage: Stage, tags: dict[str, str]
) -> None:
    stage.recover(tags=tags)
    await stage.look()
    assert await stage.state() == ("detached", OUT_OF_SCOPE.text)


async def test_nothing_ends_when_a_look_only_checks(stage: Stage) -> None:
    stage.delete()
    await stage.look(apply=False)
    assert (await stage.state())[0] == "live"
    await stage.look()
    assert (await stage.state())[0] == "detached"


async def test_nothing_ends_when_the_account_cannot_be_read(stage: Stage) -> None:
    stage.azure.errors["read account"] = [DeniedError("no right to read", subject=str(ALPHA))]
    await stage.look()
    assert (await stage.state())[0] == "live"
