"""Rows over real HTTP: versions decide who wins, tables come with their first row."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import ANY, RowWrite, Table
from finetune_wandb.model.errors import ConflictError

pytestmark = pytest.mark.stack
ODD = "a'b (c) ü %41 &+|"
"""What a resource group or a job may hold."""


@pytest.fixture
def table(storage: Storage) -> Table:
    """A table of this test's own, which does not exist yet."""
    return Table(storage, f"rows{uuid4().hex[:12]}")


def row(**columns: Any) -> tuple[str, str, dict[str, Any]]:
    return ODD, ODD, columns


async def test_row_comes_back_when_its_keys_are_odd(table: Table) -> None:
    etag = await table.put(*row(flag=True, size=0.0, text="é"), over="")
    found = await table.read(ODD, ODD)
    assert found is not None
    assert found["odata.etag"] == etag
    assert (found["flag"], found["size"], found["text"]) == (True, 0.0, "é")
    await table.delete(ODD, ODD)
    await table.delete(ODD, ODD)
    assert await table.read(ODD, ODD) is None


async def test_nothing_is_found_when_the_table_does_not_exist(table: Table) -> None:
    assert await table.read("p", "r") is None
    assert await table.query() == []
    await table.delete("p", "r")
    with pytest.raises(ConflictError):
        await table.put(*row(), over=ANY)


async def test_second_writer_gets_a_conflict(table: Table) -> None:
    first = await table.put(*row(n=1), over="")
    with pytest.raises(ConflictError):
        await table.put(*row(n=2), over="")
    second = await table.put(*row(n=3), over=first)
    with pytest.raises(ConflictError):
        await table.put(*row(n=4), over=first)
    await table.put(*row(n=5), over=second)
    await table.delete(ODD, ODD)
    with pytest.raises(ConflictError):
        await table.put(*row(n=6), over=ANY)
    assert await table.query() == []


async def test_other_columns_stay_only_when_a_row_is_merged(table: Table) -> None:
    await table.put(*row(a=1, b=1))
    await table.put(*row(a=2), merge=True)
    (found,) = await table.query()
    assert (found["a"], found["b"]) == (2, 1)
    await table.put(*row(a=3), over=ANY, merge=True)
    (found,) = await table.query()
    assert (found["a"], found["b"]) == (3, 1)
    await table.put(*row(a=4))
    (found,) = await table.query()
    assert found["a"] == 4
    assert "b" not in found


async def test_all_rows_are_found_when_they_fill_many_pages(table: Table) -> None:
    for start in range(0, 1200, 100):
        await table.write([_write(f"r{n:04d}") for n in range(start, start + 100)])
    found = await table.query(columns=("RowKey",))
    assert [one["RowKey"] for one in found] == [f"r{n:04d}" for n in range(1200)]
    assert [one["RowKey"] for one in await table.query(most=3)] == ["r0000", "r0001", "r0002"]
    assert len(await table.query(most=1100)) == 1100


async def test_no_row_is_written_when_one_of_a_transaction_conflicts(table: Table) -> None:
    (etag,) = await table.write([_write("r1")])
    for lost in (_write("r1"), _write("r1", etag=etag.replace("'2", "'1")), _write("r9", etag)):
        with pytest.raises(ConflictError):
            await table.write([_write("r2"), lost])
    assert [one["RowKey"] for one in await table.query()] == ["r1"]


@pytest.mark.parametrize(
    "write",
    [
        lambda table: table.put(*row(), over=""),
        lambda table: table.put(*row()),
        lambda table: table.put(*row(), merge=True),
        lambda table: table.write([_write("r1"), _write("r2")]),
    ],
    ids=["new", "any", "merge", "transaction"],
)
async def test_table_is_made_when_its_first_row_is_written(
    table: Table, write: Callable[[Table], Any]
) -> None:
    await write(table)
    assert len(await table.query()) >= 1


def _write(name: str, etag: str = "") -> RowWrite:
    body = f'{{"PartitionKey":"p","RowKey":"{name}"}}'
    return RowWrite("p", name, body.encode(), etag)
