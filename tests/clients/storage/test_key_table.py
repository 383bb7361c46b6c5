"""The key tables over real HTTP, and the fake: records with their tags."""

from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_wandb.clients.storage.account_tables import KeyTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.model.accounts.key import KeyRecord
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


async def test_writer_is_told_of_what_was_written_and_of_nothing_else(storage: Storage) -> None:
    told: list[KeyRecord] = []
    keys = KeyTable(storage, on_write=told.append)
    first = await keys.write(RECORD)
    assert told == [first]
    assert told[0].etag == first.etag
    with pytest.raises(ConflictError):
        await keys.write(RECORD)
    assert len(told) == 1
