"""One reader per key: those who wait, what is kept, and what comes too late."""

import asyncio

import pytest

from finetune_wandb.model.single_flight import SingleFlight


class Source:
    """Counts its reads; each waits for the gate where there is one."""

    def __init__(self) -> None:
        self.reads = 0
        self.gate: asyncio.Event | None = None
        self.fails = False

    async def __call__(self) -> int:
        self.reads += 1
        number = self.reads
        if self.gate:
            await self.gate.wait()
        if self.fails:
            raise ValueError(number)
        return number


async def test_one_read_serves_all_who_ask_meanwhile() -> None:
    flight, source = SingleFlight[str, int](9), Source()
    assert await asyncio.gather(*(flight.get("a", source) for _ in range(5))) == [1] * 5
    assert await flight.get("a", source) == 1
    assert await flight.get("b", source) == 2


async def test_answer_is_read_again_when_it_is_no_longer_fresh() -> None:
    flight, source = SingleFlight[str, int](9), Source()
    assert await flight.get("a", source, now=10) == 1
    assert await flight.get("a", source, now=11, fresh=lambda at: at >= 10) == 1
    assert await flight.get("a", source, now=12, fresh=lambda at: at > 10) == 2


async def test_failure_is_not_kept() -> None:
    flight, source = SingleFlight[str, int](9), Source()
    source.fails = True
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\d"):
            await flight.get("a", source)
    source.fails = False
    assert await flight.get("a", source) == 3


async def test_others_get_their_answer_when_one_who_waits_is_cancelled() -> None:
    flight, source = SingleFlight[str, int](9), Source()
    source.gate = asyncio.Event()
    first, second = (asyncio.ensure_future(flight.get("a", source)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    assert await second == 1


async def test_answer_that_was_put_wins_over_one_that_is_being_read() -> None:
    flight, source = SingleFlight[str, int](9), Source()
    source.gate = asyncio.Event()
    asked = asyncio.ensure_future(flight.get("a", source))
    await asyncio.sleep(0)
    flight.put("a", 100, now=1)
    source.gate.set()
    assert await asked == 100
    assert source.reads == 1


async def test_least_used_answer_goes_when_there_are_too_many() -> None:
    flight, source = SingleFlight[str, int](2), Source()
    for key in ("a", "b", "a", "c", "a"):
        await flight.get(key, source)
    assert source.reads == 3
    assert await flight.get("b", source) == 4


async def test_callers_get_an_answer_when_none_is_fresh_enough_for_any() -> None:
    """The message of an instance whose clock is ahead asks for answers of the future."""
    cache: SingleFlight[str, int] = SingleFlight(5)
    reads = 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        assert reads < 20, "the callers replace each other's answers"
        await asyncio.sleep(0)
        return reads

    await asyncio.gather(
        *(cache.get("x", read, now=now, fresh=lambda at: at > 100.0) for now in (10.0, 11.0, 12.0))
    )
    assert reads <= 3
