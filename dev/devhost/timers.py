"""Runs timer functions on their schedules, one run at a time each.

Schedules are NCRONTAB expressions of six fields, in UTC; a day must match both the day-of-month
and the day-of-week field, unlike in classic cron. A run that outlasts its interval is followed at
once by one more, however many ticks it covered. A schedule of a minute or more is monitored: with a state folder, a tick missed
while the host was down is made up for at once, marked as past due. Failed runs are repeated only
under the function's own retry policy.
"""

import asyncio
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from croniter import croniter

from dev.devhost.config import ConfigError
from dev.devhost.functions import Function
from dev.devhost.invoker import Invoker, Outcome
from dev.devhost.worker import Datum

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


log = logging.getLogger("devhost.timer")

_MONITORED_FROM_S = 60
# Wall clocks are stepped; a long wait looks at the clock again this often.
_LONGEST_SLEEP_S = 30.0


class Timer:
    """One timer function and its loop."""

    def __init__(self, function: Function, invoker: Invoker, state_dir: Path | None) -> None:
        """Raises ConfigError when the schedule is not NCRONTAB."""
        self.function = function
        self.schedule = Schedule(str(function.trigger["schedule"]), function.name)
        self._invoker = invoker
        self._last: datetime | None = None
        self._monitored = (
            function.trigger.get("useMonitor") is not False
            and self.schedule.interval(datetime.now(UTC)) >= _MONITORED_FROM_S
        )
        self._state = state_dir / f"{function.name}.json" if state_dir and self._monitored else None

    async def loop(self) -> None:
        """Run the function at each due time, until cancelled."""
        missed = self._missed()
        if missed or self.function.trigger.get("runOnStartup"):
            await self._run(past_due=missed)
        due = self.schedule.next(datetime.now(UTC))
        while True:
            self._save(due)
            await _sleep_until(due)
            await self._run(past_due=False)
            # However many ticks the run covered, one is made up for, at once.
            due = max(self.schedule.next(due), datetime.now(UTC))

    async def run_by_hand(self) -> Outcome:
        """Run the function now, beside a run that is under way, as the admin API does."""
        return await self._try(None, past_due=False)

    async def _run(self, *, past_due: bool) -> None:
        started = datetime.now(UTC)
        last = (self._last or datetime.min.replace(tzinfo=UTC)).isoformat()
        status = {
            "Last": last,
            "Next": self.schedule.next(started).isoformat(),
            "LastUpdated": last,
        }
        await self._try(status if self._monitored else None, past_due=past_due)
        self._last = started

    async def _try(self, status: dict[str, str] | None, *, past_due: bool) -> Outcome:
        """Invoke the function until it succeeds or its own retry policy is exhausted."""
        request = {
            "Schedule": {"AdjustForDST": True},
            "ScheduleStatus": status,
            "IsPastDue": past_due,
        }
        datum, retry, attempt = Datum(json.dumps(request), "json"), self.function.retry, 0
        while True:
            outcome = await self._invoker.invoke(self.function, datum, attempt=attempt)
            if outcome.ok or retry is None or 0 <= retry.limit <= attempt:
                return outcome
            attempt += 1
            await asyncio.sleep(retry.delay(attempt))

    def _missed(self) -> bool:
        """Tell whether a tick passed while no host was running."""
        if self._state is None or not self._state.is_file():
            return False
        try:
            due = datetime.fromisoformat(json.loads(self._state.read_text())["next"])
        except (ValueError, KeyError, TypeError):
            # A file cut short by a kill: the next tick puts it right.
            log.warning("%s: unreadable schedule state, ignored", self.function.name)
            return False
        return due + timedelta(seconds=1) < datetime.now(UTC)

    def _save(self, due: datetime) -> None:
        if self._state is not None:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            self._state.write_text(json.dumps({"next": due.isoformat()}))


async def _sleep_until(due: datetime) -> None:
    while True:
        left = (due - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return
        await asyncio.sleep(min(left, _LONGEST_SLEEP_S))
