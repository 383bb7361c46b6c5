"""Events: what one says, in which order a listing runs, and how far it must be read."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from finetune_wandb.model.errors import MissingError
from finetune_wandb.relay.published.events import (
    Hints,
    Page,
    console_line,
    line_mark,
    parse_event,
    read_new_events,
)

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
    """A listing of the service; `after` goes on behind the first or the last place of an id."""

    def __init__(self, items: list[Any], size: int = 100, *, last: bool = True) -> None:
        self.items = items
        self.size = size
        self.last = last
        self.asked: list[tuple[str | None, int]] = []

    async def read(self, after: str | None, limit: int) -> Page:
        self.asked.append((after, limit))
        ids = [item.get("id") if isinstance(item, dict) else None for item in self.items]
        start = 0
        if after is not None:
            if after not in ids:
                raise MissingError("no such event", subject=after)
            start = (len(ids) - ids[::-1].index(after)) if self.last else ids.index(after) + 1
        end = start + min(limit, self.size)
        return Page(self.items[start:end], end < len(self.items))


def steps(read: Any) -> list[int | None]:
    return [one.step for one in read.events]


_ORDERS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "newest": lambda items: items[::-1],
    "oldest": lambda items: items,
    "mixed": lambda items: random.Random(1).sample(items, len(items)),
}


@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_every_event_is_read_when_pages_come_in_any_order(order: str, size: int) -> None:
    listing = Listing(_ORDERS[order]([event(n) for n in range(30)]), size)
    hints = Hints()
    read = await read_new_events(listing.read, hints, full=True)
    assert steps(read) == list(range(30))
    assert not read.looped
    assert hints.order == order


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_a_page_is_enough_when_few_events_are_new(order: str) -> None:
    known = [event(n) for n in range(500)]
    hints = Hints()
    await read_new_events(Listing(_ORDERS[order](known)).read, hints, full=True)
    listing = Listing(_ORDERS[order]([*known, event(500), event(501)]))
    read = await read_new_events(listing.read, hints, full=False)
    assert {500, 501} <= set(steps(read))
    assert len(listing.asked) == 1
    listing.asked.clear()
    await read_new_events(listing.read, hints, full=False)
    assert len(listing.asked) == 1


async def test_all_new_events_are_read_when_more_came_than_a_page_holds() -> None:
    known = [event(n) for n in range(300)]
    hints = Hints()
    await read_new_events(Listing(known[::-1]).read, hints, full=True)
    more = [event(n) for n in range(300, 700)]
    listing = Listing([*known, *more][::-1])
    read = await read_new_events(listing.read, hints, full=False)
    assert set(range(300, 700)) <= set(steps(read))
    assert len(listing.asked) < 7


async def test_short_reads_go_on_when_one_event_is_out_of_place() -> None:
    """One stray event must not make every tick read the whole listing."""
    items = [event(n) for n in range(400)]
    items[200], items[201] = items[201], items[200]
    hints = Hints()
    await read_new_events(Listing(items[::-1]).read, hints, full=True)
    listing = Listing([*items, event(400)][::-1])
    await read_new_events(listing.read, hints, full=False)
    assert len(listing.asked) == 1


async def test_oldest_first_listing_is_read_anew_when_its_tail_is_gone() -> None:
    hints = Hints()
    await read_new_events(Listing([event(n) for n in range(5)]).read, hints, full=True)
    listing = Listing([event(n) for n in range(6, 9)])
    read = await read_new_events(listing.read, hints, full=False)
    assert steps(read) == [6, 7, 8]


@pytest.mark.parametrize("last", [True, False], ids=["after its last place", "after its first"])
async def test_every_event_is_read_when_ids_repeat_across_pages(last: bool) -> None:
    a, b, c, d = (event(n) for n in range(4))
    listing = Listing([a, a, b, b, c, c, d, d], 2, last=last)
    read = await read_new_events(listing.read, Hints(), full=True)
    assert steps(read) == [0, 1, 2, 3]


async def test_reading_goes_on_when_a_whole_page_says_nothing() -> None:
    empty = [{"id": f"e-{n}", "message": "", "data": None} for n in range(250)]
    listing = Listing([event(2), *empty, event(1)])
    read = await read_new_events(listing.read, Hints(), full=True)
    assert steps(read) == [1, 2]
    assert (read.unusable, read.looped) == (250, False)


async def test_reading_ends_when_the_listing_comes_back_to_itself() -> None:
    async def read(after: str | None, limit: int) -> Page:
        return Page([event(1), event(2)], True)

    found = await read_new_events(read, Hints(), full=True)
    assert steps(found) == [1, 2]
    assert found.looped


@pytest.mark.parametrize("items", [[], [{"message": "no id"}], [None, 5, "text", []]])
async def test_reading_ends_when_a_page_cannot_be_gone_on_from(items: list[Any]) -> None:
    async def read(after: str | None, limit: int) -> Page:
        return Page(items, True)

    found = await read_new_events(read, Hints(), full=True)
    assert found.looped
    assert len(found.events) <= 1


async def test_event_is_taken_once_when_it_is_listed_twice() -> None:
    nameless = {"created_at": T0, "message": "hello", "data": None}
    listing = Listing([event(1), nameless, dict(event(1)), dict(nameless), event(2)])
    read = await read_new_events(listing.read, Hints(), full=True)
    assert len(read.events) == 3


async def test_values_are_taken_when_other_events_have_the_same_id() -> None:
    more = {"step": 1, "valid_loss": 2.0}
    listing = Listing([event(1), event(2, id="ev-1"), event(1, data=more), event(1)], size=10)
    read = await read_new_events(listing.read, Hints(), full=True)
    found = {(one.step, name) for one in read.events for name in one.metrics}
    assert found == {(1, "train_loss"), (2, "train_loss"), (1, "valid_loss")}
    assert len(read.events) == 3


@pytest.mark.parametrize(
    "item",
    [
        *(None, 5, [], "text", {}, {"id": "x"}, {"message": "  "}, {"data": {"step": 1}}),
        *({"data": {"step": "x", "loss": 1}}, {"data": [1, 2]}, {"message": 5, "data": "x"}),
    ],
    ids=repr,
)
def test_event_is_not_used_when_it_says_nothing(item: Any) -> None:
    assert parse_event(item) is None


@pytest.mark.parametrize("at", [None, "soon", -1, 1e12, "NaN", [], True, 10**40])
def test_event_counts_without_its_time_when_the_time_is_impossible(at: Any) -> None:
    found = parse_event(event(1, created_at=at))
    assert found is not None
    assert (found.at, found.step) == (None, 1)


def test_line_is_as_the_sdk_writes_one_when_an_event_has_a_message() -> None:
    found = parse_event(event(1, message="two\n lines\t here", created_at=T0 + 0.25))
    assert found is not None
    assert console_line(found, T0 + 0.25) == "2025-11-24T16:00:00.250000 two lines here"
    wrong = parse_event(event(1, level="error"))
    assert wrong is not None
    assert console_line(wrong, T0).startswith("ERROR 2025-11-24T16:00:00")


def test_lines_of_one_step_differ_when_their_metrics_do() -> None:
    marks = {
        line_mark(found)
        for data in ({"a": 1}, {"b": 1}, {"a": 2})
        if (found := parse_event(event(1, data={"step": 1, **data})))
    }
    assert len(marks) == 2
    plain = parse_event({"message": "job started"})
    assert plain is not None
    assert line_mark(plain) is None


@pytest.mark.parametrize(
    ("at", "identity"), [(1_764_000_000, 5794283952529085595), (-5, 5347672744498499963)]
)
def test_message_without_an_id_is_known_by_what_runs_remember_of_it(at: int, identity: int) -> None:
    """Another sum than the stored one would print the line once more with the next release."""
    found = parse_event({"created_at": at, "message": "Job started"})
    assert found is not None
    assert found.identity == identity
