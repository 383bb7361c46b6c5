"""Brings alerts to people: what they are decided by, and where they are raised."""

import logging

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError, TemporaryError
from finetune_wandb.model.job import Job
from finetune_wandb.model.relay_ports import RunKey
from finetune_wandb.relay.notes import joined_notes
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.run.alerts import Alert, Facts, due_alerts

log = logging.getLogger(__name__)


class Alarm:
    """The alerts of one job in one pass: found first, raised once the values are sent."""

    def __init__(
        self,
        job: Job,
        account: RelayAccount,
        memory: Memory,
        *,
        ports: RelayPorts,
        options: RelayOptions,
        key: RunKey,
    ) -> None:
        self._job = job
        self._account = account
        self._memory = memory
        self._ports = ports
        self._options = options
        self._key = key
        self._due: list[Alert] = []

    @property
    def is_due(self) -> bool:
        return bool(self._due)

    def find(self, cursor: Cursor, *, now: float, previous_status: str, cost: float | None) -> None:
        """Find the alerts that are due. Times are unix seconds, cost is in USD."""
        summary = self._memory.summary
        first, lowest, last = summary.losses
        facts = Facts(
            now=now,
            previous_status=previous_status,
            first_value_at=summary.first_value_at,
            last_value_at=cursor.last_value_at,
            value_seen_at=self._memory.value_seen_at,
            steps=cursor.rows,
            first_loss=first,
            lowest_loss=lowest,
            last_loss=last,
            not_finite=summary.not_finite,
            cost=cost,
        )
        self._due = due_alerts(self._job, facts, self._options, self._memory.alerted)

    async def raise_due(self, cursor: Cursor, *, now: float) -> None:
        """Raise them on the run and as notices; what cannot be raised now is due again later."""
        for alert in self._due:
            note = await self._raise(alert, cursor, now)
            if note is None:
                continue
            if note:
                cursor.notes = joined_notes(cursor.notes, (note,))
            self._memory.alerted.append(alert.reason)

    async def _raise(self, alert: Alert, cursor: Cursor, now: float) -> str | None:
        """Raise one alert. Return None where it has to be tried again, else a note on what went
        wrong, empty for nothing."""
        assert cursor.run is not None, "only a job with a run has alerts"
        job, ports = self._job, self._ports
        try:
            await ports.sink.alert(cursor.run, alert, key=self._key)
            await ports.tell(self._account, job, cursor.run, alert, now)
        except TemporaryError as error:
            log.warning("job %s: alert %s: %s", job.id, alert.reason, error)
            return None
        except AppError as error:
            # Values must not wait for an alert that nobody takes.
            return f"alert {alert.reason} could not be raised: {error.message}"
        return ""
