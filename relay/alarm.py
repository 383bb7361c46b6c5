"""Brings alerts to people: what they are decided by, and where they are raised."""

import logging

from model.account import RelayAccount
from model.cursor import Cursor
from model.errors import AppError, TemporaryError
from model.job import Job
from model.relay_ports import RunKey
from relay.alerts import Alert, Facts
from relay.memory import Memory
from relay.ports import RelayPorts

log = logging.getLogger(__name__)


def facts_of(
    cursor: Cursor, memory: Memory, *, now: float, previous_status: str, cost: float | None
) -> Facts:
    """Return what alerts are decided by. Times are unix seconds, cost is in USD."""
    first, lowest, last = memory.summary.losses
    return Facts(
        now=now,
        previous_status=previous_status,
        first_value_at=memory.summary.first_value_at,
        last_value_at=cursor.last_value_at,
        value_seen_at=memory.value_seen_at,
        steps=cursor.rows,
        first_loss=first,
        lowest_loss=lowest,
        last_loss=last,
        not_finite=memory.summary.not_finite,
        cost=cost,
    )


async def raise_alert(
    alert: Alert,
    job: Job,
    cursor: Cursor,
    account: RelayAccount,
    *,
    ports: RelayPorts,
    key: RunKey,
    now: float,
) -> str | None:
    """Raise an alert on the run and as a notice.

    Return None where it has to be tried again, else a note on what went wrong, empty for nothing.
    """
    assert cursor.run is not None, "only a job with a run has alerts"
    try:
        await ports.sink.alert(cursor.run, alert, key=key)
        await ports.tell(account, job, cursor.run, alert, now)
    except TemporaryError as error:
        log.warning("job %s: alert %s: %s", job.id, alert.reason, error)
        return None
    except AppError as error:
        # Values must not wait for an alert that nobody takes.
        return f"alert {alert.reason} could not be raised: {error.message}"
    return ""
