"""The table of re-syncs, over real HTTP and in memory: both keep the same promises."""

from dataclasses import replace

import pytest

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Rows
from finetune_wandb.clients.storage.work_tables import ResyncTable
from finetune_wandb.model.resync import Resync, ResyncItem, ResyncRequest
from tests.flows.resync_stage import Resyncs

REQUEST = ResyncRequest(scope="job", account="/a", job="j", parts=("jobs",), since=5.0)
FIRST = Resync(id="1" * 32, request=REQUEST, requested_by="me", created_at=100.0)
SECOND = replace(FIRST, id="2" * 32, created_at=200.0, spread=True)
ITEM = ResyncItem(
    name="jobs /a 1", account="/a", total=2, done=1, left=("j2",), results=[{"error": "e"}]
)


@pytest.fixture(params=["table", "memory"])
def table(request: pytest.FixtureRequest, storage: Storage) -> ResyncTable | Resyncs:
    return ResyncTable(storage) if request.param == "table" else Resyncs()


async def test_resync_and_items_are_the_same_when_they_were_stored(
    table: ResyncTable | Resyncs,
) -> None:
    stored = replace(FIRST, id="0" * 32)
    await table.write(stored)
    await table.write_item(stored.id, ITEM)
    assert await table.read(stored.id) == (stored, [ITEM])
    assert await table.read_head(stored.id) == stored
    assert await table.read_item(stored.id, ITEM.name) == ITEM
    # An item that is there keeps its progress.
    await table.add_item(stored.id, replace(ITEM, done=0))
    other = replace(ITEM, name="jobs /a 0", state="done")
    await table.add_item(stored.id, other)
    assert await table.read(stored.id) == (stored, [other, ITEM])
    await table.remove_item(stored.id, other.name)
    assert await table.read(stored.id) == (stored, [ITEM])
    await table.remove(stored.id)
    assert await table.read(stored.id) is None
    assert await table.read_head(stored.id) is None
    assert await table.read_item(stored.id, ITEM.name) is None


async def test_resync_is_read_when_another_release_stored_it(storage: Storage) -> None:
    table = ResyncTable(storage)
    stored = replace(FIRST, id="0" * 32)
    await table.write(stored)
    # Another release of the app may have written more fields.
    rows = Rows(storage, "resyncs", dict)
    row, _ = await rows.read(stored.id, "-head")
    assert row is not None
    await rows.put(stored.id, "-head", row | {"later": 1, "request": row["request"] | {"x": 2}})
    assert await table.read_head(stored.id) == stored
    await table.remove(stored.id)


async def test_predecessor_is_removed_when_the_next_one_is_claimed(
    table: ResyncTable | Resyncs,
) -> None:
    known = ""
    for resync in (FIRST, SECOND):
        await table.write(resync)
        await table.write_item(resync.id, ITEM)
        assert await table.claim("same", resync, instead_of=known) == resync.id
        known = resync.id
    assert await table.read(FIRST.id) is None
    assert await table.read_item(FIRST.id, ITEM.name) is None
    assert await table.read(SECOND.id) == (SECOND, [ITEM])
    # One that lost the race removes nothing.
    assert await table.claim("same", FIRST, instead_of=FIRST.id) == SECOND.id
    assert await table.read_head(SECOND.id) == SECOND


async def test_old_resyncs_leave_no_row_when_they_are_purged(table: ResyncTable | Resyncs) -> None:
    old, young = replace(FIRST, id="3" * 32), replace(SECOND, id="4" * 32, created_at=9000.0)
    for number, resync in enumerate((old, young)):
        await table.write(resync)
        await table.claim(f"purge {number}", resync, instead_of="")
    await table.purge(before=5000.0)
    latest = [one for one, _ in await table.latest()]
    assert old.id not in latest
    assert young.id in latest
    assert await table.read(old.id) is None
    assert await table.running("purge 0") == ""
