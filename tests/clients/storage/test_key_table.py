"""The key tables over real HTTP, and the fake: records with their tags, the audit and its end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.clients.storage.account_tables import KeyTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.accounts.key import KeyChange, KeyRecord
from finetune_wandb.model.accounts.ports import KeyStore
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.secret import SecretRef
from tests.fakes import NOW, PLACE, VAULT, FakeKeyTable, World

RECORD = KeyRecord(
    secret=PLACE,
    version="v1",
    entity="team-a",
    entities=("team-a", "team-b"),
    accepted_at=NOW,
    expires_at=NOW + timedelta(days=90),
    trigger="an event",
    newest_version="v1",
    newest_cause="key_accepted",
    checked_at=NOW,
    refused_at=NOW - timedelta(hours=1),
    told="v1|v1|key_accepted||30 days",
)


@pytest.fixture(params=["table", "fake"])
def keys(request: pytest.FixtureRequest) -> KeyStore:
    if request.param == "fake":
        return FakeKeyTable(World())
    return KeyTable(request.getfixturevalue("storage"))


def change(days_ago: int, number: str = "v1") -> KeyChange:
    return KeyChange(
        at=NOW - timedelta(days=days_ago),
        secret=PLACE,
        version=number,
        entity="team-a",
        accepted=True,
        cause="key_accepted",
        trigger="an event",
    )


async def test_record_comes_back_as_written(keys: KeyStore) -> None:
    assert await keys.read(PLACE) is None
    written = await keys.write(RECORD)
    found = await keys.read(SecretRef(VAULT, "WANDB-API-KEY"))
    assert found == RECORD
    assert found is not None
    assert found.etag == written.etag != ""
    assert await keys.list_all() == [RECORD]


async def test_time_is_removed_when_it_is_no_longer_so(keys: KeyStore) -> None:
    written = await keys.write(RECORD)
    await keys.write(replace(written, expires_at=None))
    found = await keys.read(PLACE)
    assert found is not None
    assert found.expires_at is None


async def test_conflict_is_raised_when_another_writer_came_first(keys: KeyStore) -> None:
    first = await keys.write(RECORD)
    second = await keys.write(replace(first, version="v2"))
    with pytest.raises(ConflictError):
        await keys.write(replace(first, version="v3"))
    with pytest.raises(ConflictError):
        await keys.write(RECORD)
    found = await keys.read(PLACE)
    assert found is not None
    assert (found.version, found.etag) == ("v2", second.etag)


async def test_audit_is_newest_first_and_of_one_secret(keys: KeyStore) -> None:
    for days, number in ((2, "v1"), (0, "v3"), (1, "v2")):
        await keys.append_change(change(days, number))
    await keys.append_change(replace(change(0, "x"), secret=SecretRef(VAULT, "another")))
    found = await keys.list_changes(PLACE)
    assert [item.version for item in found] == ["v3", "v2", "v1"]
    assert found[0] == change(0, "v3")
    newest = await keys.list_changes(PLACE, most=2)
    assert [item.version for item in newest] == ["v3", "v2"]


async def test_audit_keeps_four_hundred_days(keys: KeyStore) -> None:
    for days in (500, 401, 399):
        await keys.append_change(change(days, f"v{days}"))
        await keys.append_change(
            replace(change(days, f"v{days}"), secret=SecretRef(VAULT, "another"))
        )
    await keys.append_change(change(0))
    assert await keys.purge_changes(NOW) == 4
    found = await keys.list_changes(PLACE)
    assert [item.version for item in found] == ["v1", "v399"]
    assert await keys.purge_changes(NOW) == 0


async def test_line_is_one_when_it_is_appended_twice(keys: KeyStore) -> None:
    await keys.append_change(change(0))
    await keys.append_change(change(0))
    assert len(await keys.list_changes(PLACE)) == 1


async def test_writer_is_told_of_what_was_written_and_of_nothing_else(storage: Storage) -> None:
    told: list[KeyRecord] = []
    keys = KeyTable(storage, on_write=told.append)
    first = await keys.write(RECORD)
    assert told == [first]
    assert told[0].etag == first.etag
    with pytest.raises(ConflictError):
        await keys.write(RECORD)
    assert len(told) == 1
