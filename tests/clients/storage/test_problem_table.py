"""The table of problems over real HTTP: each is counted, by several processes too."""

import asyncio
import time

from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.storage.work_tables import ProblemTable
from finetune_wandb.model.work import Problem


async def test_problem_is_counted_when_it_comes_again(storage: Storage) -> None:
    table = ProblemTable(storage)
    problem = Problem(source="s", subject="again", cause="c", remedy="r", count=3)
    assert await table.note(problem)
    assert not await table.note(problem)
    (found,) = [one for one in await table.list_all() if one.subject == "again"]
    assert (found.count, found.remedy) == (6, "r")
    await table.clear(problem)
    assert [one for one in await table.list_all() if one.subject == "again"] == []


async def test_no_count_is_lost_when_two_processes_note_the_same(storage: Storage) -> None:
    problem = Problem(source="s", subject="both", cause="c")
    tables = [ProblemTable(storage) for _ in range(3)]
    for _ in range(4):
        await asyncio.gather(*(table.note(problem) for table in tables))
    (found,) = [one for one in await tables[0].list_all() if one.subject == "both"]
    assert found.count == 12


async def test_problem_is_removed_when_it_did_not_come_for_a_week(storage: Storage) -> None:
    day = 86_400.0
    table = ProblemTable(storage)
    then = ProblemTable(storage, clock=lambda: time.time() - 8 * day)
    for subject, at in (("old", then), ("fresh", table)):
        await at.note(Problem(source="purge", subject=subject, cause="c"))
    await table.purge()
    left = [one.subject for one in await then.list_all() if one.source == "purge"]
    assert left == ["fresh"]
