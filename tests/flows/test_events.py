"""A flood of events that cannot be used: what it costs, and that each one is counted."""

import asyncio
from typing import Any

import pytest

from finetune_wandb.flows.events import MOST_NAMED, OTHERS
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.work import Source
from handlers.events import handle
from tests.handlers.events import account_written, event
from tests.handlers.stage import FakeApp

MANY = 1_000


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


def junk(kind: str = "Contoso.Things.Happened") -> Any:
    return event(kind, {})


async def test_flood_costs_a_write_for_each_cause_when_it_comes_at_once(app: FakeApp) -> None:
    kinds = ["Contoso.Things.Happened", "Microsoft.Resources.ResourceWriteFailure"]
    flood = (handle(junk(kinds[number % 2]), Source.ACCOUNT_EVENT, app) for number in range(MANY))
    assert sum(await asyncio.gather(*flood)) == 0
    assert app.problems.writes <= 2 * len(kinds)
    assert sorted(app.problems.known.values()) == [MANY // 2, MANY // 2]
    assert app.sent == []


async def test_first_kinds_are_named_when_every_event_is_of_another(app: FakeApp) -> None:
    flood = (
        handle(junk(f"Contoso.Thing{number}"), Source.ACCOUNT_EVENT, app) for number in range(MANY)
    )
    await asyncio.gather(*flood)
    assert app.problems.writes <= 2 * (MOST_NAMED + 1)
    assert sum(app.problems.known.values()) == MANY
    subjects = [subject for _, subject, _ in app.problems.known]
    assert len(subjects) == MOST_NAMED + 1
    assert "type of Contoso.Thing0" in subjects
    assert OTHERS in subjects


async def test_kinds_are_named_again_when_the_flood_is_long_over(app: FakeApp) -> None:
    for number in range(MOST_NAMED + 1):
        await handle(junk(f"Contoso.Thing{number}"), Source.ACCOUNT_EVENT, app)
    app.now += 2 * 3600
    await handle(junk("Contoso.Later"), Source.ACCOUNT_EVENT, app)
    assert "type of Contoso.Later" in [subject for _, subject, _ in app.problems.known]


async def test_writes_are_apart_when_events_come_one_after_the_other(app: FakeApp) -> None:
    began = app.now
    for _ in range(9):
        await handle(junk(), Source.ACCOUNT_EVENT, app)
    assert app.now - began >= 2
    assert list(app.problems.known.values()) == [9]


async def test_event_is_answered_before_event_grid_gives_up_when_others_wait_too(
    app: FakeApp,
) -> None:
    """Event Grid waits 30 seconds; an event waits for the round under way and for its own."""
    for number in range(5):
        began = app.now
        await asyncio.gather(
            *(handle(junk(f"Contoso.Thing{number}"), Source.ACCOUNT_EVENT, app) for _ in range(9))
        )
        assert app.now - began < 10
    began = app.now
    await handle(account_written(), Source.ACCOUNT_EVENT, app)
    assert (app.now, len(app.sent)) == (began, 1)


async def test_every_event_is_delivered_again_when_storage_is_away(app: FakeApp) -> None:
    app.problems.fails = True
    found = await asyncio.gather(
        *(handle(junk(), Source.ACCOUNT_EVENT, app) for _ in range(100)), return_exceptions=True
    )
    assert {type(one) for one in found} == {UnavailableError}
    app.problems.fails = False
    await asyncio.gather(*(handle(junk(), Source.ACCOUNT_EVENT, app) for _ in range(100)))
    assert list(app.problems.known.values()) == [100]


async def test_others_are_counted_when_one_caller_is_given_up(app: FakeApp) -> None:
    tasks = [asyncio.create_task(handle(junk(), Source.ACCOUNT_EVENT, app)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(app.problems.known.values()) >= 2
    assert not tasks[1].cancelled()
