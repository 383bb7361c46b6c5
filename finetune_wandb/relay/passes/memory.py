"""What the relay remembers of one job between passes, in the cursor's opaque state."""

import logging
import re
import zlib
from typing import Any, Final, Self

from msgspec import field

from finetune_wandb.model.relay.cursor import Cursor, Kept
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.settings import Prices
from finetune_wandb.relay.passes.ledger import Ledger
from finetune_wandb.relay.published.listing import Hints
from finetune_wandb.relay.published.rows import Event
from finetune_wandb.relay.run.cost import Meter
from finetune_wandb.relay.run.summary import Series, Summary

log = logging.getLogger(__name__)

_NUMBER: Final = re.compile(r"[0-9.]+")


class Memory(Kept):
    """Changed by a pass, and put into the cursor before that is saved."""

    ledger: Ledger = field(default_factory=Ledger)
    """Values that are in the run or in the outbox."""
    console: Ledger = field(default_factory=Ledger)
    """Console lines of events with a step and no values, by step and text without its numbers."""
    seen: set[int] = field(default_factory=set)
    """Identities of the other console lines."""
    summary: Summary = field(default_factory=Summary)
    hints: Hints = field(default_factory=Hints)
    curve: dict[str, Series] = field(default_factory=dict)
    """By metric. Kept beside the state: the dashboard shows it."""
    attributes: int | None = None
    """Hash of the run's attributes as W&B has them; None until W&B has the run."""
    generation: int = 1
    """1 for the job's own run id; more where that id was taken or its run deleted."""
    relay_id: str = ""
    """Tells the job's run from one that another deployment makes of the same job; it is in the
    run's config. Empty for a run of an older version."""
    doubted: bool = False
    """W&B answered that it has no such run; it is asked before anything else is sent."""
    ended: bool = False
    """The run has its end, or the outbox holds it."""
    end: str = ""
    """Body that says the run's end and last summary again; empty while the job lives."""
    looks: int = 0
    """How often late values were looked for after the end."""
    results_read: list[str] = field(default_factory=list)
    """Ids of the result files that were read to their end."""
    file_looks: int = 0
    """Further looks for a result file that broke off."""
    asked: dict[str, Any] | None = None
    """Hyperparameters as they were when the job was first seen."""
    alerted: list[str] = field(default_factory=list)
    artifacts: str = ""
    """`sent` once the job's artifacts were asked for, `done` once they are logged."""
    files: dict[str, Any] = field(default_factory=dict)
    """Facts of the job's files, known once its artifacts are logged."""
    value_seen_at: float | None = None
    """When the relay last met a new value, or one of a step that is trained again (unix seconds)."""
    paused_at: float | None = None
    """Since when the job is paused (unix seconds); None while it is not."""
    paused_s: float = 0.0
    """How long it was paused before, in seconds."""
    stop_seen: bool = False
    checkpoints_at: float = 0.0
    """When the checkpoints of the running job were read last, or its first values came (unix
    seconds)."""
    facts: int | None = None
    """Hash of what the last summary took from the job object."""

    @classmethod
    def of(cls, cursor: Cursor) -> Self:
        """Return what the cursor holds; a new memory for a new cursor."""
        return cls.load({**cursor.state, "curve": cursor.curve})

    @classmethod
    def readable(cls, cursor: Cursor) -> Self | None:
        """Return what the cursor holds, None where this version of the app cannot read it.

        Such a row stays as it is.
        """
        try:
            return None if cursor.is_unreadable else cls.of(cursor)
        except Exception:  # whatever the other version's shape makes of it
            log.warning("job %s: its stored state cannot be read", cursor.job, exc_info=True)
            return None

    def put_into(self, cursor: Cursor) -> None:
        """Put the memory into the cursor, which is about to be saved."""
        state = self.dump()
        state["seen"].sort()  # equal memories are stored as equal bytes
        state["summary"] = self.summary.dump()
        cursor.curve = state.pop("curve")
        cursor.state = state

    def without_run(self, generation: int) -> "Memory":
        """Return what stays known of the job once its run is lost."""
        return Memory(
            generation=generation,
            relay_id=self.relay_id,
            asked=self.asked,
            alerted=self.alerted,
            paused_at=self.paused_at,
            paused_s=self.paused_s,
        )

    def see_status(self, job: Job, now: float) -> None:
        """Keep the time that the job is paused: Azure does not bill it."""
        if job.is_paused:
            self.paused_at = now if self.paused_at is None else self.paused_at
        elif self.paused_at is not None:
            end = now if job.finished_at is None else min(now, job.finished_at)
            self.paused_s += max(end - self.paused_at, 0.0)
            self.paused_at = None

    def meter(self, job: Job, prices: Prices, now: float) -> Meter:
        """Return what the job has used and what that costs, until `now` (unix seconds)."""
        paused_s = self.paused_s + (max(now - self.paused_at, 0.0) if self.paused_at else 0.0)
        progress = self.summary.progress(job)
        return self.summary.usage.meter(job, prices, paused_s=paused_s, progress=progress, now=now)

    def claim_line(self, event: Event) -> bool:
        """Take an event's console line; say whether it is new."""
        if event.step is not None:
            # One text with other numbers at each step: the ledger stays small.
            text = _NUMBER.sub("", event.message)
            return self.console.claim(event.step, f"{event.is_error:d}{zlib.crc32(text.encode())}")
        return self.claim_once(event.identity)

    def claim_once(self, identity: int) -> bool:
        """Take a single line by its identity; say whether it is new."""
        if identity in self.seen:
            return False
        self.seen.add(identity)
        return True
