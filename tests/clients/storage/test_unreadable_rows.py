"""A row that another version of the app wrote, in a shape that this one cannot read, hides no other
row, stops nothing but its own work, and is shown."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest

from finetune_wandb.clients.storage.account_tables import AccountTable
from finetune_wandb.clients.storage.cursor_table import CursorTable, partition
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.tables import Table, matching, table_key
from finetune_wandb.clients.storage.work_tables import ProblemTable, WorkTable
from finetune_wandb.model.errors import RejectedError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.state import RelayState
from finetune_wandb.model.work import Problem, Source, work_of

pytestmark = pytest.mark.stack
PROBLEM = Problem(source=Source.RELAY_TIMER, subject="bad", cause="c")


@pytest.fixture(autouse=True)
async def emptied(storage: Storage) -> AsyncIterator[None]:
    """Leave no row behind that other tests would meet."""
    yield
    for name in ("work", "problems"):
        table = Table(storage, name)
        rows = await table.query(columns=("PartitionKey", "RowKey"))
        await asyncio.gather(*(table.delete(row["PartitionKey"], row["RowKey"]) for row in rows))


async def spoil(storage: Storage, name: str, where: str, **bad: Any) -> None:
    """Write other values into the data of a stored row."""
    (row,) = await Table(storage, name).query(where)
    data = orjson.dumps(orjson.loads(row["data"]) | bad).decode()
    await Table(storage, name).put(row["PartitionKey"], row["RowKey"], {"data": data})


async def subjects(storage: Storage) -> set[str]:
    return {problem.subject for problem in await ProblemTable(storage).list_all()}


@pytest.mark.parametrize("bad", [{"begun_by": 3}, {"body": "!!"}, {"body": "aa"}, {"problem": "x"}])
async def test_other_messages_are_listed_when_one_cannot_be_read(
    storage: Storage, bad: dict[str, Any]
) -> None:
    table = WorkTable(storage)
    good, odd = (replace(work_of("q", name.encode()), begun_by=("a",)) for name in ("good", "odd"))
    await table.claim(good)
    await table.claim(odd)
    await spoil(storage, "work", matching("open", odd.key), **bad)
    assert [work.body for work in await table.list_open()] == [good.body]
    assert await table.read(odd) is None
    assert await subjects(storage) == {"table work"}
    await table.remove(odd)
    assert len(await table.list_open()) == 1
    assert await subjects(storage) == set()


async def test_problems_are_noted_and_listed_when_one_cannot_be_read(storage: Storage) -> None:
    table = ProblemTable(storage)
    for subject in ("good", "bad"):
        await table.note(replace(PROBLEM, subject=subject))
    row = table_key("bad c")
    await spoil(storage, "problems", matching(Source.RELAY_TIMER, row), count="many")
    assert await subjects(storage) == {"good", "table problems"}
    await table.purge()
    await table.note(PROBLEM)
    assert await subjects(storage) == {"good", "bad"}


@pytest.mark.parametrize("bad", [{"status": None}, {"relay_state": "later"}, {"retry_at": "soon"}])
async def test_jobs_are_seen_and_read_when_one_row_cannot_be(
    storage: Storage, bad: dict[str, Any]
) -> None:
    cursors, account = CursorTable(storage), f"/accounts/{uuid4()}"
    await cursors.save([Cursor(account, job, relay_state=RelayState.LIVE) for job in ("j1", "j2")])
    rows = Table(storage, "jobs")
    (row,) = await rows.query(matching(partition(account), "j2"))
    columns = {name: value for name, value in (row | bad).items() if value is not None}
    await rows.put(partition(account), "j2", columns)
    seen = {one.job: one.relay_state for one in await cursors.seen(account)}
    assert seen == {"j1": "live", "j2": "parked"}
    listed = {one.job: one.is_unreadable for one in await cursors.list_cursors(account)}
    assert listed == {"j1": False, "j2": True}


async def test_accounts_are_relayed_when_one_row_cannot_be_read(storage: Storage) -> None:
    flags = {"in_scope": True, "deleted": False}
    texts = dict.fromkeys(("endpoint", "region", "entity", "project", "secret"), "x")
    account = (
        "/subscriptions/{}/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/acct"
    )
    names = [str(uuid4()) for _ in range(2)]
    for number, name in enumerate(names):
        columns = {
            "id": account.format(name),
            "vault_host": "vault.vault.azure.net",
            **flags,
            **texts,
        }
        await Table(storage, "accounts").put(
            name, "g|acct", columns | ({"mode": "full"} if number == 0 else {})
        )
    found = await AccountTable(storage).list_for_relay()
    assert [one.subscription for one in found] == names[:1]
    assert "table accounts" in await subjects(storage)


async def test_cause_is_said_when_a_row_is_asked_for_that_cannot_be_read(storage: Storage) -> None:
    table = ProblemTable(storage)
    await table.note(PROBLEM)
    await spoil(storage, "problems", matching(Source.RELAY_TIMER, table_key("bad c")), count="x")
    with pytest.raises(RejectedError, match="cannot be read by this version"):
        await table._rows.read(Source.RELAY_TIMER, "bad c")
