"""One look at an account: what becomes of its runs when it is gone, and when it is back."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows.account import handle
from finetune_wandb.model.errors import DeniedError, MissingError
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
        self.audit = fakes.FakeAudit()
        self.app: Any = SimpleNamespace(
            settings=settings(),
            audit=self.audit,
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


async def test_account_of_another_kind_is_in_no_table_and_no_count() -> None:
    stage = Stage()
    stage.recover(kind="SpeechServices")
    await stage.look()
    assert stage.azure.entries == {}
    assert stage.azure.notices == []
    assert stage.audit.entries == []


async def test_entry_of_another_kind_is_closed_when_an_older_version_stored_it() -> None:
    stage = Stage()
    await stage.look()
    stage.recover(kind="SpeechServices")
    await stage.look()
    assert stage.azure.entries[ALPHA.key].deleted
    before = list(stage.audit.entries)
    stage.app.now = lambda: NOW + timedelta(hours=1)
    await stage.look()
    assert stage.audit.entries == before


async def test_account_is_deleted_only_when_a_second_read_does_not_find_it_either() -> None:
    stage = Stage()
    await stage.ready()
    stage.azure.errors["read account"] = [MissingError("no", code="ResourceNotFound")]
    await stage.look()
    entry = stage.azure.entries[ALPHA.key]
    assert not entry.deleted
    assert entry.in_scope
    assert (await stage.state())[0] == RelayState.LIVE
    (later,) = [one for one in stage.queue.sent if one["kind"] == "account"]
    assert (later["account"], later["attempt"]) == (str(ALPHA), 1)
    await stage.look()
    assert stage.azure.entries[ALPHA.key].healthy
    stage.delete()
    await stage.look()
    await stage.look()
    assert stage.azure.entries[ALPHA.key].deleted


async def test_new_account_is_looked_at_again_when_the_first_read_does_not_find_it() -> None:
    stage = Stage()
    found = dict(stage.azure.accounts)
    stage.delete()
    await stage.look()
    assert stage.azure.entries == {}
    assert len(stage.queue.sent) == 1
    stage.azure.accounts |= found
    await stage.look()
    assert stage.azure.entries[ALPHA.key].healthy


async def test_a_check_changes_neither_the_accounts_mode_nor_the_audit(stage: Stage) -> None:
    await stage.look()
    before = stage.azure.entries[ALPHA.key]
    count = len(stage.audit.entries)
    await stage.look(apply=False)
    await stage.look()
    assert stage.azure.entries[ALPHA.key].mode == before.mode == "full"
    assert stage.audit.entries[count:] == []


async def test_a_job_may_be_cancelled_after_a_check_as_before_it(stage: Stage) -> None:
    await stage.look(apply=False)
    (account,) = await stage.app.accounts.list_for_relay()
    assert not account.observed
