"""The relay's ports in one object, made once per process by the composition root."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import RunPath
from finetune_wandb.model.job import Job
from finetune_wandb.model.ports import NoticePort, OutgoingNotice
from finetune_wandb.model.relay_ports import (
    CursorsPort,
    JobsPort,
    KeysPort,
    RunAlert,
    RunKey,
    SinkPort,
)
from finetune_wandb.relay.options import RelayOptions

WHOLE_JOBS: Final = 8
"""Jobs that are over are relayed so many together: all that each published may be in memory."""
_WHOLE_AT_ONCE: Final = 3


@dataclass(frozen=True, slots=True)
class RelayPorts:
    """Everything a pass reads and writes through."""

    jobs: JobsPort
    cursors: CursorsPort
    sink: SinkPort
    keys: KeysPort
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
