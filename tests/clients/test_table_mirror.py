"""A mirror of a table over real HTTP: as fresh as a full read, whatever changed since."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.table_mirror import TableMirror
from finetune_wandb.clients.storage.table_wire import TableWire


def parse(row: Any) -> tuple[str, int] | None:
    return (row["RowKey"], row["number"]) if row["number"] >= 0 else None


@pytest.fixture
def name() -> str:
    """A table of this test's own."""
    return f"mirrored{uuid.uuid4().hex[:12]}"


async def put(storage: Storage, name: str, row: str, number: int) -> None:
    table = await storage.table(name)
    await table.upsert_entity({"PartitionKey": "p", "RowKey": row, "number": number, "more": "x"})


async def test_new_and_changed_rows_are_there_when_looked_at_again(
    storage: Storage, name: str
) -> None:
    mirror = TableMirror(TableWire(storage), name, parse, columns=["number"])
    assert await mirror.values() == []
    for number in range(5):
        await put(storage, name, f"row-{number}", number)
    assert sorted(await mirror.values()) == [(f"row-{number}", number) for number in range(5)]
    await put(storage, name, "row-3", 30)
    await put(storage, name, "row-9", 9)
    await put(storage, name, "row-0", -1)
    found = dict(await mirror.values())
    assert found == {"row-1": 1, "row-2": 2, "row-3": 30, "row-4": 4, "row-9": 9}
    assert dict(await mirror.values()) == found


async def test_unchanged_rows_stay_the_same_objects(storage: Storage, name: str) -> None:
    await put(storage, name, "row-1", 1)
    mirror = TableMirror(TableWire(storage), name, parse)
    (first,) = [one for one in await mirror.values() if one[0] == "row-1"]
    await put(storage, name, "row-2", 2)
    (again,) = [one for one in await mirror.values() if one[0] == "row-1"]
    assert again is first


async def test_old_rows_are_not_asked_for_again(storage: Storage, name: str) -> None:
    parsed: list[str] = []

    def noting(row: Any) -> tuple[str, int] | None:
        parsed.append(row["RowKey"])
        return parse(row)

    await put(storage, name, "row-1", 1)
    # Nothing is young enough to be read twice: the margin reaches into the future.
    mirror = TableMirror(TableWire(storage), name, noting, margin=timedelta(seconds=-60))
    before = await mirror.values()
    parsed.clear()
    assert await mirror.values() == before
    assert parsed == []
