"""What a pass of the relay works with: its ports, what the settings decide, notes on a job."""

import asyncio
import logging
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.ports import NoticePort, OutgoingNotice
from finetune_wandb.model.errors import TemporaryError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import (
    CursorsPort,
    JobsPort,
    KeysPort,
    RunAlert,
    RunKey,
    SinkPort,
)
from finetune_wandb.model.settings import Prices, Settings

log = logging.getLogger(__name__)

JOBS_PER_MESSAGE: Final = 20
"""So many jobs travel, and are worked on, together."""
WHOLE_JOBS: Final = 8
"""Jobs that are over are relayed so many together: all that each published may be in memory."""
_WHOLE_AT_ONCE: Final = 3
_NUMBER: Final = re.compile(r"\b[0-9]+\b")
_MOST_NOTES: Final = 20


@dataclass(frozen=True, slots=True)
class RelayPorts:
    """Everything a pass reads and writes through."""

    jobs: JobsPort
    cursors: CursorsPort
    sink: SinkPort
    keys: KeysPort
    new_id: Callable[[], str] = field(kw_only=True)
    """Returns a short id that no other call of any deployment returns."""
    notices: NoticePort | None = None
    whole: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_WHOLE_AT_ONCE))
    """Taken in turns, by all messages of the process, for WHOLE_JOBS jobs that are over."""
    beats: dict[tuple[str, str], float] = field(default_factory=dict)
    """When this process last told W&B that the run of (account, job) is alive (unix seconds)."""
    patience_s: float = 5.0
    """A job that takes longer to read is left behind by the others of its message."""
    hold_s: float = 20.0
    """How often a job that is still being read is claimed again."""
    budget_s: float = 420.0
    """A job that takes longer to read is given up until the next tick."""

    async def tell(
        self, account: RelayAccount, job: Job, run: RunPath, alert: RunAlert, now: float
    ) -> None:
        """Publish an alert as a notice, where there is a topic."""
        if self.notices is None:
            return
        await self.notices.publish(
            OutgoingNotice(
                id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{account.key}|{job.id}|{alert.reason}")),
                type="WandbRelay.JobAlert",
                subject=f"{account.id}/jobs/{job.id}",
                time=datetime.fromtimestamp(now, UTC),
                data={
                    "account": str(account.id),
                    "job": job.id,
                    "status": job.status,
                    "reason": alert.reason,
                    "title": alert.title,
                    "text": alert.text,
                    "level": alert.level,
                    "run": str(run),
                },
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """Defaults are those of a test that wants none of the extras."""

    skip_native: bool = True
    alerts: frozenset[str] = frozenset()
    prices: Prices = field(default_factory=dict)
    cost_alert_usd: float = 0.0
    stall_factor: float = 10.0
    cancel_on_stop: bool = False
    artifacts: bool = False
    best_checkpoint_metric: str = ""


def options_of(settings: Settings) -> RelayOptions:
    return RelayOptions(
        skip_native=settings.native_jobs == "skip",
        alerts=frozenset(settings.alerts),
        prices=settings.prices,
        cost_alert_usd=settings.cost_alert_usd,
        stall_factor=settings.stall_factor,
        cancel_on_stop=settings.on_wandb_stop == "cancel" and settings.apply_mode == "full",
        artifacts=settings.artifacts == "on",
        best_checkpoint_metric=settings.best_checkpoint_metric,
    )


@dataclass(frozen=True, slots=True)
class PassContext:
    """What the passes of one message share."""

    account: RelayAccount
    ports: RelayPorts
    options: RelayOptions
    key: RunKey
    clock: Callable[[], float]
    """Unix seconds."""
    full: bool = False
    """Everything is read once more, also of jobs that are long over."""


def unexpected(error: Exception, doing: str, subject: str) -> TemporaryError:
    """Return what is shown of a surprise: it must not stop the neighbours of its subject."""
    log.error("%s: unexpected while %s", subject, doing, exc_info=error)
    return TemporaryError(
        f"unexpected {type(error).__name__} while {doing}",
        subject=subject,
        remedy="retried with the next tick; the traceback is in the log",
    )


def joined_notes(known: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return all notes; of those that differ only in their numbers, the newest."""
    notes = {_NUMBER.sub("", note): note for note in (*known, *more)}
    return tuple(notes.values())[-_MOST_NOTES:]
