"""Events: what one says, and its line of console output."""

from typing import Any

import pytest

from finetune_wandb.relay.published.rows import console_line, parse_event

T0 = 1_764_000_000


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"ev-{number}",
        "created_at": T0 + number,
        "message": f"m{number}",
        "data": {"step": number, "train_loss": 1.0},
        **more,
    }


@pytest.mark.parametrize(
    "item",
    [
        *({}, {"id": "x"}, {"message": "  "}, {"data": {"step": 1}}),
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


def test_message_without_an_id_is_known_again_by_what_it_says() -> None:
    first, again, other = (
        parse_event({"created_at": at, "message": "Job started"}) for at in (T0, T0, T0 + 1)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.identity == again.identity != other.identity
