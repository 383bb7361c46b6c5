"""The table of begun and set-aside messages over real HTTP."""

from dataclasses import replace

import pytest

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.work_tables import WorkTable
from finetune_wandb.model.errors import ConflictError
from finetune_wandb.model.work import Problem, work_of

BODY = b'{"kind":"account","account":"/a/b"}' + b"\xff"


async def test_row_is_claimed_once_when_several_begin_it(storage: Storage) -> None:
    table = WorkTable(storage)
    work = replace(work_of("claimed", BODY), begun_by=("one",), alive_at=5.0)
    assert await table.read(work) is None
    await table.claim(work)
    with pytest.raises(ConflictError):
        await table.claim(work)
    known = await table.read(work)
    assert known
    assert replace(known, etag="") == work
    taken = replace(known, begun_by=("one", "two"), second_round=True)
    await table.claim(taken)
    with pytest.raises(ConflictError):
        await table.claim(taken)
    (found,) = [one for one in await table.list_open() if one.queue == "claimed"]
    assert (found.begun_by, found.second_round, found.body) == (("one", "two"), True, BODY)
    await table.remove(work)
    await table.remove(work)
    assert await table.read(work) is None


async def test_message_is_kept_whole_when_it_is_set_aside(storage: Storage) -> None:
    table = WorkTable(storage)
    problem = Problem(source="s", subject="x", cause="c", remedy="r")
    work = replace(work_of("aside", BODY * 1000), problem=problem)
    await table.claim(work)
    await table.set_aside(work)
    assert await table.is_aside(work)
    assert await table.read(work) is None
    (found,) = [one for one in await table.list_aside() if one.queue == "aside"]
    assert found == work
    await table.forget_aside(found)
    assert not await table.is_aside(work)


async def test_message_is_cut_when_no_row_can_hold_it(storage: Storage) -> None:
    table = WorkTable(storage)
    body = bytes(hash((n, "seed")) % 256 for n in range(60_000))
    await table.set_aside(work_of("cut", body))
    (found,) = [one for one in await table.list_aside() if one.queue == "cut"]
    assert body.startswith(found.body)
    assert len(found.body) > 10_000
    await table.forget_aside(found)
    assert not await table.is_aside(work_of("cut", body))
