"""What a pass and a rotation leave in the audit: before each change, and with its outcome."""

from datetime import timedelta

import pytest

from finetune_wandb.accounts.reconcile import reconcile_account
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.audit import AuditEntry, Occasion
from finetune_wandb.model.errors import DeniedError, UnavailableError
from tests.accounts.minting import stage_with_a_key, turn
from tests.fakes import GOOD, NOW, PLACE, World, account_id, settings, world

OCCASION = Occasion("an event", "ann@example.com")


async def reconcile(azure: World, **more: str) -> AccountReport:
    return await reconcile_account(
        account_id(),
        ports=azure.ports(),
        settings=settings(**more),
        now=NOW,
        apply=True,
        fresh_after=NOW,
        occasion=OCCASION,
    )


def steps(azure: World) -> list[AuditEntry]:
    return [entry for entry in azure.audit.entries if entry.action != "key_changed"]


async def test_each_step_is_recorded_with_its_cause_and_who_asked() -> None:
    azure = world()
    await reconcile(azure)
    assert [(entry.action, entry.outcome) for entry in steps(azure)] == [
        ("enable_identity", "done"),
        ("grant_role", "done"),
        ("write_record", "done"),
    ]
    for entry in steps(azure):
        assert entry.subject == str(account_id())
        assert (entry.trigger, entry.by) == ("an event", "ann@example.com")
        assert entry.cause
        assert entry.detail["target"]
    count = len(azure.audit.entries)
    await reconcile(azure)
    assert len(azure.audit.entries) == count


async def test_refused_step_is_recorded_with_the_services_code() -> None:
    azure = world(errors={"grant role": [DeniedError("no", code="AuthorizationFailed")]})
    await reconcile(azure)
    (entry,) = [one for one in steps(azure) if one.action == "grant_role"]
    assert (entry.outcome, entry.code) == ("failed", "AuthorizationFailed")


async def test_nothing_is_changed_when_it_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    azure = world()

    async def down(entry: AuditEntry) -> None:
        raise UnavailableError("the table is down", code="503")

    monkeypatch.setattr(azure.audit, "write", down)
    with pytest.raises(UnavailableError):
        await reconcile(azure)
    assert not [write for write in azure.writes if "key record" not in write]


async def test_observing_records_no_change_of_the_apps_own() -> None:
    azure = world()
    await reconcile(azure, APPLY_MODE="observe")
    assert steps(azure) == []


async def test_rotation_records_what_it_makes_stores_and_deletes() -> None:
    stage = await stage_with_a_key()
    await turn(stage)
    stage.now += timedelta(hours=73)
    await turn(stage)
    made = [(entry.action, entry.outcome) for entry in steps(stage.azure)]
    assert made == [("mint_key", "done"), ("store_key", "done"), ("delete_key", "done")]
    values = {one.value.reveal() for one in stage.azure.secrets[PLACE]} | {GOOD}
    assert len(values) > 1
    assert not [value for value in values if value in repr(stage.azure.audit.entries)]
