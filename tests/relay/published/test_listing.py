"""A job's event listing: nothing new is passed over, whatever its order, and little is read again."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_wandb.model.errors import MissingError
from finetune_wandb.model.relay.ports import Listing as Page
from finetune_wandb.relay.published.listing import LATE_S, PAGE, Hints, read_events

T0 = 1_764_000_000


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"ev-{number}",
        "created_at": T0 + number,
        "message": f"m{number}",
        "data": {"step": number, "train_loss": 1.0},
        **more,
    }


class Listing:
    """A listing of the service; `after` goes on after the first or the last place of an id."""

    def __init__(self, items: list[Any], size: int = 100, *, last: bool = True) -> None:
        self.items = items
        self.size = size
        self.last = last
        self.asked: list[str | None] = []

    async def read(self, after: str | None) -> Page:
        self.asked.append(after)
        ids = [item.get("id") for item in self.items]
        start = 0
        if after is not None:
            if after not in ids:
                raise MissingError("no such event", subject=after)
            start = (len(ids) - ids[::-1].index(after)) if self.last else ids.index(after) + 1
        end = start + min(PAGE, self.size)
        return Page(self.items[start:end], end < len(self.items))


def steps(read: Any) -> list[int | None]:
    return [one.step for one in read.events]


async def hints_of(items: list[Any]) -> Hints:
    """Return what a whole read of the listing leaves for the next one."""
    return (await read_events(Listing(items).read, Hints(), full=True)).hints


async def read_whole(listing: Listing) -> Any:
    return await read_events(listing.read, Hints(), full=True)


_ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "newest": lambda items: items[::-1],
    "oldest": lambda items: items,
    "mixed": lambda items: random.Random(1).sample(items, len(items)),
}


@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_every_event_is_read_when_pages_come_in_any_order(order: str, size: int) -> None:
    read = await read_whole(Listing(_ORDERS[order]([event(n) for n in range(30)]), size))
    assert steps(read) == list(range(30))
    assert not read.looped
    assert read.hints.order == order


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("pause", [1, 10], ids=["an event a second", "an event in ten seconds"])
@pytest.mark.parametrize("length", [500, 5000])
async def test_a_page_is_enough_when_few_events_are_new(
    order: str, pause: int, length: int
) -> None:
    made = [event(n, created_at=T0 + n * pause) for n in range(length + 2)]
    hints = await hints_of(_ORDERS[order](made[:length]))
    listing = Listing(_ORDERS[order](made))
    read = await read_events(listing.read, hints, full=False)
    assert {length, length + 1} <= set(steps(read))
    assert len(listing.asked) == 1
    idle = await read_events(listing.read, read.hints, full=False)
    assert len(listing.asked) == 2
    assert len(steps(idle)) < 60


async def test_all_new_events_are_read_when_more_came_than_a_page_holds() -> None:
    known = [event(n) for n in range(300)]
    hints = await hints_of(known[::-1])
    listing = Listing([*known, *(event(n) for n in range(300, 700))][::-1])
    read = await read_events(listing.read, hints, full=False)
    assert set(range(300, 700)) <= set(steps(read))
    assert len(listing.asked) < 7


@pytest.mark.parametrize("place", [200, 397])
async def test_short_reads_go_on_when_one_event_is_out_of_place(place: int) -> None:
    """One stray event must not make every tick read the whole listing."""
    items = [event(n) for n in range(400)]
    items[place], items[place + 1] = items[place + 1], items[place]
    hints = await hints_of(items[::-1])
    listing = Listing([*items, event(400)][::-1])
    await read_events(listing.read, hints, full=False)
    assert len(listing.asked) == 1


@pytest.mark.parametrize("length", [25, 200])
@pytest.mark.parametrize(("before", "now"), [("newest", "oldest"), ("oldest", "newest")])
async def test_new_events_are_read_when_the_order_flips(before: str, now: str, length: int) -> None:
    known = [event(n) for n in range(length)]
    hints = await hints_of(_ORDERS[before](known))
    listing = Listing(_ORDERS[now]([*known, event(length)]))
    read = await read_events(listing.read, hints, full=False)
    assert length in steps(read)
    assert read.hints.order == now


async def test_live_events_are_read_when_ties_are_listed_in_the_order_of_writing() -> None:
    """Two new events of one second look like an oldest-first listing where they alone are judged."""
    made: list[dict[str, Any]] = []
    hints = Hints()
    found: set[int | None] = set()
    for tick in range(1, 60):
        for late in (-40, -40) if tick == 4 else (-40, -10):
            made.append(event(len(made), created_at=T0 + tick * 60 + late))
        listing = Listing(sorted(made, key=lambda one: -one["created_at"]))
        read = await read_events(listing.read, hints, full=False)
        hints, found = read.hints, found | set(steps(read))
        assert found == set(range(len(made)))


async def test_new_event_is_read_when_it_is_listed_after_a_page_of_its_own_second() -> None:
    same = [event(n, created_at=T0 + 1000) for n in range(200, 350)]
    older = [event(n) for n in range(100)][::-1]
    hints = await hints_of([*same, *older])
    listing = Listing([*same, event(350, created_at=T0 + 1000), *older])
    assert 350 in steps(await read_events(listing.read, hints, full=False))


async def test_listing_is_read_whole_when_its_times_show_no_order() -> None:
    known = [event(n, created_at=T0) for n in range(300)]
    hints = await hints_of(known)
    listing = Listing([*known, event(300, created_at=T0)])
    read = await read_events(listing.read, hints, full=False)
    assert 300 in steps(read)
    assert len(listing.asked) == 4


async def test_oldest_first_listing_is_read_anew_when_its_anchor_is_gone() -> None:
    hints = await hints_of([event(n) for n in range(100)])
    assert hints.after
    listing = Listing([event(n) for n in range(106, 109)])
    assert steps(await read_events(listing.read, hints, full=False)) == [106, 107, 108]


@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize("full", [True, False], ids=["full", "live"])
async def test_read_goes_on_when_its_pages_were_used_up(order: str, full: bool) -> None:
    made = [event(n) for n in range(1000)]
    hints, found = Hints(), set[int | None]()
    for turn in range(5):
        listing = Listing(_ORDERS[order](made))
        read = await read_events(listing.read, hints, full=full, most=3)
        assert len(listing.asked) <= 3
        hints, found = Hints.load(read.hints.dump()), found | set(steps(read))
        if not read.unfinished:
            break
        if order != "mixed":
            made.append(event(1000 + turn))
    assert found == set(range(len(made)))
    assert not hints.ending
    again = Listing(_ORDERS[order](made))
    await read_events(again.read, hints, full=True)
    assert again.asked[0] is None, "a new full read begins at the beginning"


async def test_read_begins_anew_when_the_event_to_go_on_after_is_gone() -> None:
    made = [event(n) for n in range(500)][::-1]
    first = await read_events(Listing(made).read, Hints(), full=False, most=2)
    assert first.unfinished
    rest = [one for one in made if one["id"] != first.hints.after]
    read = await read_events(Listing(rest).read, first.hints, full=False)
    assert len(steps(read)) == 499
    assert not read.unfinished


def test_hints_are_loaded_by_name_when_a_field_is_missing_or_unknown() -> None:
    known = Hints("newest", [1, 2], 4.5, "ev", True)
    assert Hints.load(known.dump()) == known
    assert Hints.load(None) == Hints()
    assert Hints.load({"order": "oldest", "of another release": 1}) == Hints("oldest")


@pytest.mark.parametrize("last", [True, False], ids=["after its last place", "after its first"])
async def test_every_event_is_read_when_ids_repeat_across_pages(last: bool) -> None:
    a, b, c, d = (event(n) for n in range(4))
    listing = Listing([a, a, b, b, c, c, d, d], 2, last=last)
    read = await read_whole(listing)
    assert steps(read) == [0, 1, 2, 3]


async def test_reading_goes_on_when_a_whole_page_says_nothing() -> None:
    empty = [{"id": f"e-{n}", "message": "", "data": None} for n in range(250)]
    listing = Listing([event(2), *empty, event(1)])
    read = await read_whole(listing)
    assert steps(read) == [1, 2]
    assert (read.unusable, read.looped) == (250, False)


async def test_reading_ends_when_the_listing_comes_back_to_itself() -> None:
    async def read(after: str | None) -> Page:
        return Page([event(1), event(2)], True)

    found = await read_events(read, Hints(), full=True)
    assert steps(found) == [1, 2]
    assert found.looped


@pytest.mark.parametrize("items", [[], [{"message": "no id"}]])
async def test_reading_ends_when_a_page_cannot_be_gone_on_from(items: list[Any]) -> None:
    async def read(after: str | None) -> Page:
        return Page(items, True, unusable=3)

    found = await read_events(read, Hints(), full=True)
    assert found.unusable == 3
    assert found.looped
    assert len(found.events) <= 1


async def test_event_is_taken_once_when_it_is_listed_twice() -> None:
    nameless = {"created_at": T0, "message": "hello", "data": None}
    listing = Listing([event(1), nameless, dict(event(1)), dict(nameless), event(2)])
    read = await read_whole(listing)
    assert len(read.events) == 3


async def test_values_are_taken_when_other_events_have_the_same_id() -> None:
    more = {"step": 1, "valid_loss": 2.0}
    listing = Listing([event(1), event(2, id="ev-1"), event(1, data=more), event(1)], size=10)
    read = await read_whole(listing)
    found = {(one.step, name) for one in read.events for name in one.metrics}
    assert found == {(1, "train_loss"), (2, "train_loss"), (1, "valid_loss")}
    assert len(read.events) == 3


# Random listings, read tick by tick


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[list[dict[str, Any]], int]]:
    """Return, for each tick, the listing as it is then and the most items of one page.

    An event is listed at most LATE_S after the newest one that was listed before.
    """
    order = draw(st.sampled_from(("newest", "oldest")))
    ties = draw(st.sampled_from(("written", "reversed", "random")))
    by_time = draw(st.booleans())
    size = draw(st.sampled_from((1, 2, 7, 20, 100)))
    made: list[dict[str, Any]] = []
    ticks = []
    now = float(T0)
    for _ in range(draw(st.integers(1, 7))):
        newest = max((one["created_at"] for one in made), default=now)
        burst = draw(st.sampled_from((0, 1, 2, 3, 5, 30, 130)))
        pause = draw(st.sampled_from((0, 0, 1, 1, 7, 60)))
        for _ in range(burst):
            now += pause
            late = draw(st.sampled_from((0, 0, 0, 1, 5, LATE_S))) if burst < 10 else 0
            made.append(event(len(made), created_at=max(now - late, newest - LATE_S)))
            if draw(st.integers(0, 19)) == 0 and burst < 10:
                del made[-1]["data"]
        if draw(st.integers(0, 5)) == 0:
            order = "oldest" if order == "newest" else "newest"
        listed = list(made)
        if ties == "reversed":
            listed.reverse()
        elif ties == "random":
            draw(st.randoms(use_true_random=False)).shuffle(listed)
        if by_time or ties != "written":
            listed.sort(key=lambda one: one["created_at"], reverse=order == "newest")
        elif order == "newest":
            listed.reverse()
        ticks.append((listed, size))
        now += draw(st.sampled_from((0, 1, 20, 60)))
    return ticks


@settings(max_examples=200)
@given(lives())
async def test_every_event_is_known_after_each_tick_when_the_listing_is_any(
    ticks: list[tuple[list[dict[str, Any]], int]],
) -> None:
    hints = Hints()
    found: set[str] = set()
    for listed, size in ticks:
        read = await read_events(Listing(listed, size).read, hints, full=False)
        found |= {one.key for one in read.events}
        assert found == {one["id"] for one in listed}
        hints = Hints.load(read.hints.dump())
