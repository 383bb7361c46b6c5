"""Facts that accounts share: read once, used while fresh, never when older than the message."""

import asyncio
from datetime import timedelta

import pytest

from finetune_wandb.accounts.ports import KEEP_FOR, SharedReads
from tests.accounts.stage import run_pass
from tests.fakes import LONG_AGO, NOW, account, world


class Counter:
    def __init__(self, keep: bool = True) -> None:
        self.reads = 0
        self.keep = keep
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> int:
        self.reads += 1
        mine = self.reads
        await self.gate.wait()
        return mine


async def ask(shared: SharedReads, fact: Counter, now=NOW, fresh_after=LONG_AGO) -> int:
    return await shared.get(
        "fact", fact.read, now=now, fresh_after=fresh_after, keep=lambda _: fact.keep
    )


async def test_one_reads_when_many_ask_at_once() -> None:
    shared, fact = SharedReads(), Counter()
    fact.gate.clear()
    asking = [asyncio.create_task(ask(shared, fact)) for _ in range(50)]
    await asyncio.sleep(0)
    fact.gate.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert fact.reads == 1


@pytest.mark.parametrize(
    ("now", "fresh_after", "reads"),
    [
        pytest.param(NOW + KEEP_FOR - timedelta(seconds=1), LONG_AGO, 1, id="young"),
        pytest.param(NOW + KEEP_FOR, LONG_AGO, 2, id="a minute old"),
        pytest.param(NOW, NOW, 1, id="read as the message was sent"),
        pytest.param(NOW, NOW + timedelta(seconds=1), 2, id="read before the message was sent"),
    ],
)
async def test_fact_is_read_again_when_old(now, fresh_after, reads: int) -> None:
    shared, fact = SharedReads(), Counter()
    await ask(shared, fact)
    await ask(shared, fact, now, fresh_after)
    assert fact.reads == reads


async def test_fact_is_read_again_when_it_is_not_worth_keeping() -> None:
    shared, fact = SharedReads(), Counter(keep=False)
    await ask(shared, fact)
    await ask(shared, fact)
    assert fact.reads == 2


async def test_one_answer_serves_all_who_wait_when_it_is_not_worth_keeping() -> None:
    shared, fact = SharedReads(), Counter(keep=False)
    asking = [asyncio.create_task(ask(shared, fact)) for _ in range(50)]
    assert await asyncio.gather(*asking) == [1] * 50


async def test_others_get_their_answer_when_the_first_is_cancelled() -> None:
    shared, fact = SharedReads(), Counter()
    fact.gate.clear()
    first = asyncio.create_task(ask(shared, fact))
    second = asyncio.create_task(ask(shared, fact))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    fact.gate.set()
    assert await second == 1
    assert fact.reads == 1


async def test_error_is_not_kept() -> None:
    shared = SharedReads()

    async def fail() -> int:
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        await shared.get("fact", fail, now=NOW, fresh_after=LONG_AGO)
    assert await ask(shared, Counter()) == 1


async def test_fact_being_read_is_read_again_when_it_is_written_meanwhile() -> None:
    shared, fact = SharedReads(), Counter()
    fact.gate.clear()
    asking = asyncio.create_task(ask(shared, fact))
    await asyncio.sleep(0)
    shared.amend("fact", lambda kept: kept + 100)
    fact.gate.set()
    assert await asking == 2
    assert await ask(shared, fact) == 2
    shared.amend("fact", lambda kept: kept + 100)
    assert await ask(shared, fact) == 102


async def test_two_hundred_accounts_share_the_facts_of_one_vault() -> None:
    names = [f"acc{number:03}" for number in range(200)]
    azure = world(*(account(name) for name in names))
    ports = azure.ports()
    reports = await asyncio.gather(*(run_pass(azure, name=name, ports=ports) for name in names))
    assert all(report.healthy for report in reports)
    assert len(azure.calls) <= 200 * 4 + 9
    for shared_call in ("find vault", "read secret", "prove key", "list roles"):
        assert azure.calls.count(shared_call) == 1
    # Once for the new version, once for the place that all accounts share.
    assert azure.calls.count("ask for write right") == 2


async def test_one_comes_after_the_other_when_both_want_the_same_account() -> None:
    shared, story = SharedReads(), []

    async def work(name: str, key: str) -> None:
        async with shared.turn(key):
            story.append(f"{name} begins")
            await asyncio.sleep(0)
            story.append(f"{name} ends")

    await asyncio.gather(work("first", "a"), work("second", "a"), work("other", "b"))
    own = [line for line in story if not line.startswith("other")]
    assert own == ["first begins", "first ends", "second begins", "second ends"]
    assert story.index("other begins") < story.index("first ends")


async def test_turn_is_free_again_when_the_work_failed() -> None:
    shared = SharedReads()
    with pytest.raises(ValueError, match="once"):
        async with shared.turn("a"):
            raise ValueError("once")
    async with asyncio.timeout(1), shared.turn("a"):
        pass
