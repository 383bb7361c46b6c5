"""When a timer is due: NCRONTAB expressions of six fields, in UTC.

A day must match both the day-of-month and the day-of-week field, unlike in classic cron.
"""

import re
from datetime import UTC, datetime

from croniter import croniter  # type: ignore[import-untyped]

from dev.devhost.errors import ConfigError

_FIELD = re.compile(r"[\dA-Za-z*/,\-]+")


class Schedule:
    """One timer's schedule."""

    def __init__(self, expression: str, function: str) -> None:
        """Parse `second minute hour day month weekday`. Raises ConfigError naming `function`."""
        fields = expression.split()
        # Five fields, and croniter's own extensions (L, W, #, ?), would mean something else
        # in the cloud or be refused there.
        if len(fields) != 6 or not all(_FIELD.fullmatch(field) for field in fields):
            raise ConfigError(
                f"{function}: {expression!r} is not an NCRONTAB schedule of six fields "
                "(second minute hour day month weekday)"
            )
        self.expression = " ".join(fields)
        try:
            self.next(datetime.now(UTC))
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{function}: schedule {expression!r}: {error}") from error

    def next(self, after: datetime) -> datetime:
        """Return the first due time strictly after `after`, both in UTC."""
        ticks = croniter(
            self.expression, after, ret_type=datetime, second_at_beginning=True, day_or=False
        )
        due: datetime = ticks.get_next()
        return due

    def interval(self, after: datetime) -> float:
        """Return the seconds between the next two due times after `after`."""
        first = self.next(after)
        return (self.next(first) - first).total_seconds()
