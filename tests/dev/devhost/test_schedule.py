"""NCRONTAB schedules: when a timer is due, and what is not a schedule."""

from datetime import UTC, datetime

import pytest

from dev.devhost.config import ConfigError
from dev.devhost.timers import Schedule


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        pytest.param("*/2 * * * * *", ["03:45:02", "03:45:04"], id="every two seconds"),
        pytest.param("0 */5 * * * *", ["03:50:00", "03:55:00"], id="every five minutes"),
        pytest.param("0 30 4-6 * * Mon-Fri", ["04:30:00", "05:30:00"], id="names of days"),
    ],
)
def test_due_times_follow_when_schedule_is_ncrontab(expression: str, due: list[str]) -> None:
    schedule = Schedule(expression, "f")
    first = schedule.next(datetime(2026, 11, 24, 3, 45, 1, tzinfo=UTC))
    assert [f"{at:%H:%M:%S}" for at in (first, schedule.next(first))] == due


def test_day_must_match_both_fields_when_both_are_given() -> None:
    due = Schedule("0 0 12 1 * 1", "f").next(datetime(2026, 11, 24, tzinfo=UTC))
    assert due == datetime(2027, 2, 1, 12, tzinfo=UTC)  # the first Monday that is a first


@pytest.mark.parametrize("expression", ["* * * * *", "", "0 0 L * * *", "61 * * * * *", "00:05:00"])
def test_schedule_is_refused_when_cloud_would_refuse_it(expression: str) -> None:
    with pytest.raises(ConfigError, match="on_timer"):
        Schedule(expression, "on_timer")
