"""The relay's memory: the table and the fake keep, lose and refuse the same."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import orjson
import pytest

from finetune_wandb.clients.storage.cursor_table import CursorTable, change_of, cursor_of
from finetune_wandb.clients.storage.service import Storage, StorageAddress
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import AppError, ConflictError, RejectedError
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.ports import CursorsPort
from finetune_wandb.model.relay.state import RelayState
from tests.fakes import FakeCursors

_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


async def until_listening(url: str) -> None:
    """Wait until Azurite takes connections: on a busy machine it starts slowly."""
    port = int(url.split("/")[2].rpartition(":")[2])
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            await writer.wait_closed()
            return


@pytest.fixture
def account() -> str:
    """An account of its own, so that tests need no empty table."""
    return f"/subscriptions/{uuid4()}/resourcegroups/rg/providers/x/accounts/a"


@pytest.fixture(params=["fake", pytest.param("table", marks=pytest.mark.stack)])
async def cursors(request: pytest.FixtureRequest) -> AsyncIterator[CursorsPort]:
    if request.param == "fake":
        yield FakeCursors()
        return
    url: str = request.getfixturevalue("table_url")
    await until_listening(url)
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={_KEY};"
        f"TableEndpoint={url};"
    )
    transport = Transport()
    storage = Storage(StorageAddress(connection_string=connection), transport)
    yield CursorTable(storage)
    await transport.close()


def full(account: str, job: str = "ftjob-1", **more: Any) -> Cursor:
    """Return a cursor with something in every field."""
    given: dict[str, Any] = {
        "relay_state": "live",
        "status": "running",
        "run": RunPath("team", "my project", "ftjob-1"),
        "rows": 5,
        "lines": 7,
        "values": 9,
        "last_step": 11,
        "last_value_at": 1.5,
        "lag_s": 2.5,
        "posted_at": 3.5,
        "ending_since": 4.5,
        "retry_at": 5.5,
        "failures": 1,
        "error": "é",
        "remedy": "r",
        "notes": ("a", "b"),
        "created_at": 6.5,
        "finished_at": 7.5,
        "model": "m",
        "state": {"ledger": {"count": 2**60}, "text": "é" * 10},
        "outbox": bytes(range(256)),
    }
    return Cursor(account, job, **{**given, **more})


def is_conflict(unsaved: dict[str, AppError], job: str) -> bool:
    """Say whether exactly this job's cursor was left since somebody else wrote it first."""
    return list(unsaved) == [job] and isinstance(unsaved[job], ConflictError)


async def test_cursor_comes_back_as_it_was_when_it_was_saved(
    cursors: CursorsPort, account: str
) -> None:
    cursor = full(account)
    assert await cursors.save([cursor]) == {}
    assert cursor.etag
    assert await cursors.read(account, ["ftjob-1", "ftjob-2"]) == {"ftjob-1": cursor}
    assert await cursors.read(f"{account}x", ["ftjob-1"]) == {}


@pytest.mark.parametrize("size", [10, 200_000])
async def test_outbox_is_empty_when_only_that_was_saved_again(
    cursors: CursorsPort, account: str, size: int
) -> None:
    # Random bytes: they stay as many when they are compressed.
    cursor = full(account, outbox=b"{" + random.Random(1).randbytes(size))
    await cursors.save([cursor])
    cursor.outbox, cursor.posted_at, cursor.relay_state = b"", 99.5, "ending"
    assert await cursors.save([cursor]) == {}
    (found,) = (await cursors.read(account, ["ftjob-1"])).values()
    assert found == cursor
    # The next request of the same job, through the cursor as it was read.
    found.outbox, found.rows = b'{"small":1}', 6
    assert await cursors.save([found]) == {}
    assert await cursors.read(account, ["ftjob-1"]) == {"ftjob-1": found}
    found.state = {"other": 1}
    await cursors.save([found])
    assert await cursors.read(account, ["ftjob-1"]) == {"ftjob-1": found}


def test_outbox_is_empty_when_a_column_behind_the_emptied_ones_is_left() -> None:
    """Another zlib may make more columns of the same bytes than the one that empties them."""
    row = orjson.loads(change_of(full("/a"))[0].body)
    row |= {"outbox0": "", "outbox1": "bGVmdCBvdmVy"}
    assert cursor_of("/a", row, "1").outbox == b""


async def test_second_writer_is_told_when_it_changes_little(
    cursors: CursorsPort, account: str
) -> None:
    await cursors.save([full(account)])
    mine = (await cursors.read(account, ["ftjob-1"]))["ftjob-1"]
    theirs = (await cursors.read(account, ["ftjob-1"]))["ftjob-1"]
    theirs.outbox = mine.outbox = b""
    theirs.posted_at, mine.posted_at = 1.0, 2.0
    assert await cursors.save([theirs]) == {}
    assert is_conflict(await cursors.save([mine]), "ftjob-1")
    (found,) = (await cursors.read(account, ["ftjob-1"])).values()
    assert found.posted_at == 1.0


async def test_defaults_come_back_when_a_cursor_is_new(cursors: CursorsPort, account: str) -> None:
    cursor = Cursor(account, "ftjob-1")
    await cursors.save([cursor])
    assert await cursors.read(account, ["ftjob-1"]) == {"ftjob-1": cursor}


@pytest.mark.parametrize("job", ["a/b", "a'b", "é ü", "x" * 256, "a|b", "%#?"])
async def test_job_is_found_again_when_its_id_is_odd(
    cursors: CursorsPort, account: str, job: str
) -> None:
    await cursors.save([full(account, job)])
    assert list(await cursors.read(account, [job])) == [job]
    assert [one.job for one in await cursors.seen(account)] == [job]


async def test_second_writer_is_told_when_somebody_wrote_first(
    cursors: CursorsPort, account: str
) -> None:
    await cursors.save([full(account)])
    mine = (await cursors.read(account, ["ftjob-1"]))["ftjob-1"]
    theirs = (await cursors.read(account, ["ftjob-1"]))["ftjob-1"]
    theirs.rows = 6
    assert await cursors.save([theirs]) == {}
    mine.rows, etag = 99, mine.etag
    assert is_conflict(await cursors.save([mine]), "ftjob-1")
    assert mine.etag == etag
    assert (await cursors.read(account, ["ftjob-1"]))["ftjob-1"].rows == 6
    theirs.rows = 7
    assert await cursors.save([theirs]) == {}


async def test_one_of_two_wins_when_both_make_the_same_cursor(
    cursors: CursorsPort, account: str
) -> None:
    assert await cursors.save([full(account, rows=1)]) == {}
    assert is_conflict(await cursors.save([full(account, rows=2)]), "ftjob-1")
    assert (await cursors.read(account, ["ftjob-1"]))["ftjob-1"].rows == 1


async def test_other_cursors_are_written_when_one_of_them_is_lost(
    cursors: CursorsPort, account: str
) -> None:
    batch = [full(account, f"j{n}") for n in range(5)]
    await cursors.save(batch)
    stale = (await cursors.read(account, ["j2"]))["j2"]
    await cursors.save([batch[2]])
    for cursor in batch:
        cursor.rows = 50
    batch[2] = stale
    batch.append(full(account, "new", rows=50))
    assert is_conflict(await cursors.save(batch), "j2")
    found = await cursors.read(account, [f"j{n}" for n in range(5)] + ["new"])
    assert [found[name].rows for name in ("j0", "j1", "j2", "j3", "new")] == [50, 50, 5, 50, 50]


async def test_one_worker_wins_each_round_when_many_race(
    cursors: CursorsPort, account: str
) -> None:
    await cursors.save([full(account, rows=0)])

    async def worker() -> int:
        won = 0
        for _ in range(6):
            cursor = (await cursors.read(account, ["ftjob-1"]))["ftjob-1"]
            cursor.rows += 1
            won += not await cursors.save([cursor])
        return won

    won = sum(await asyncio.gather(*(worker() for _ in range(4))))
    assert (await cursors.read(account, ["ftjob-1"]))["ftjob-1"].rows == won


async def test_outbox_comes_back_whole_when_it_is_as_large_as_one_gets(
    cursors: CursorsPort, account: str
) -> None:
    noise = random.Random(1)
    rows = ",".join(f'{{"step":{n},"train_loss":{noise.random()}}}' for n in range(25_000))
    assert len(rows) > 900_000
    cursors_sent = [full(account, f"j{n}", outbox=rows.encode()) for n in range(8)]
    assert await cursors.save(cursors_sent) == {}
    found = await cursors.read(account, [cursor.job for cursor in cursors_sent])
    assert all(cursor.outbox == rows.encode() for cursor in found.values())
    assert len(found) == 8


async def test_states_are_seen_when_an_account_has_more_jobs_than_a_query_names(
    cursors: CursorsPort, account: str
) -> None:
    batch = [full(account, f"j{n}", relay_state="complete", retry_at=float(n)) for n in range(120)]
    assert await cursors.save(batch) == {}
    seen = {one.job: one for one in await cursors.seen(account)}
    assert len(seen) == 120
    assert (seen["j7"].relay_state, seen["j7"].retry_at) == ("complete", 7.0)
    assert len(await cursors.read(account, [f"j{n}" for n in range(40)])) == 40
    assert await cursors.read(account, []) == {}


async def test_other_cursors_are_written_when_one_of_them_is_larger_than_a_row(
    cursors: CursorsPort, account: str
) -> None:
    batch = [full(account, f"j{n}") for n in range(3)]
    batch[1].state = {"ledger": random.Random(1).randbytes(1_300_000).hex()}
    unsaved = await cursors.save(batch)
    assert list(unsaved) == ["j1"]
    assert isinstance(unsaved["j1"], RejectedError)
    assert unsaved["j1"].subject == "j1"
    assert sorted(await cursors.read(account, ["j0", "j1", "j2"])) == ["j0", "j2"]


async def test_cursor_of_ten_thousand_metrics_is_written(
    cursors: CursorsPort, account: str
) -> None:
    noise = random.Random(1)
    names = [f"grader_{n}_{noise.random()}" for n in range(10_000)]
    ledger = [[names, [[1, 30_000, 1], *([n * 7, n * 7, 1] for n in range(9))]]]
    cursor = full(account, state={"ledger": ledger, "last": dict.fromkeys(names, 0.123456789)})
    assert await cursors.save([cursor]) == {}
    assert (await cursors.read(account, ["ftjob-1"]))["ftjob-1"].state == cursor.state


def test_other_rows_are_read_when_another_version_wrote_one() -> None:
    good = orjson.loads(change_of(Cursor("/account", "j1", relay_state=RelayState.LIVE))[0].body)
    for bad in (
        {"relay_state": "of a later version"},
        {"info": "1"},
        {"state0": "!"},
        {"state0": base64.b64encode(b"\x78\x00").decode()},
        {"run": "no path"},
    ):
        found = cursor_of("/account", {**good, **bad}, "etag")
        assert (found.is_unreadable, found.relay_state) == (True, "parked")
        assert found.error
        assert found.remedy
    assert not cursor_of("/account", good, "etag").is_unreadable


@pytest.mark.parametrize("name", ["busy_until", "listed_at", "posted_at", "failures", "notes"])
def test_row_is_unreadable_when_a_field_has_another_type(name: str) -> None:
    good = orjson.loads(change_of(Cursor("/account", "j1"))[0].body)
    info = {**orjson.loads(good["info"]), name: None}
    found = cursor_of("/account", {**good, "info": orjson.dumps(info).decode()}, "etag")
    assert (found.is_unreadable, found.relay_state) == (True, "parked")
