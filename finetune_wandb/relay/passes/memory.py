"""What the relay remembers of one job between passes, in the cursor's opaque state.

Loaded by name with defaults, so that a row that an older or newer version wrote still loads.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Self

from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.relay.passes.ledger import Ledger
from finetune_wandb.relay.published.listing import Hints
from finetune_wandb.relay.published.rows import Event
from finetune_wandb.relay.run.curve import Curve
from finetune_wandb.relay.run.summary import Summary


@dataclass(slots=True)
class Memory:
    """Changed by a pass; `dump` gives the JSON that `load` reads."""

    ledger: Ledger = field(default_factory=Ledger)
    """Values that are in the run or in the outbox."""
    console: Ledger = field(default_factory=Ledger)
    """Console lines of events with a step and no values, by step."""
    seen: set[int] = field(default_factory=set)
    """Identities of the other console lines."""
    summary: Summary = field(default_factory=Summary)
    hints: Hints = field(default_factory=Hints)
    curve: Curve = field(default_factory=lambda: Curve({}))
    """Kept beside the state: the dashboard shows it."""
    attributes: int | None = None
    """Hash of the run's attributes as W&B has them; None until W&B has the run."""
    generation: int = 1
    """1 for the job's own run id; more where that id was taken or its run deleted."""
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
    """When the relay last met a new value, or a pause ended after it (unix seconds)."""
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
    def load(cls, state: dict[str, Any], curve: dict[str, Any]) -> Self:
        """Return what `dump` wrote; a new memory for an empty state."""
        plain = {name: state[name] for name in _PLAIN if name in state}
        memory = cls(
            ledger=Ledger.load(state.get("ledger")),
            console=Ledger.load(state.get("console")),
            seen=set(state.get("seen", ())),
            summary=Summary.load(state.get("summary")),
            hints=Hints.load(state.get("hints")),
            curve=Curve(curve),
            **plain,
        )
        # Lists grow in place; the cursor's own copy must stay as it was stored.
        memory.results_read, memory.alerted = list(memory.results_read), list(memory.alerted)
        return memory

    def dump(self) -> dict[str, Any]:
        return {
            "ledger": self.ledger.dump(),
            "console": self.console.dump(),
            "seen": sorted(self.seen),
            "summary": self.summary.dump(),
            "hints": self.hints.dump(),
            **{name: getattr(self, name) for name in _PLAIN},
            "results_read": list(self.results_read),
            "alerted": list(self.alerted),
        }

    def without_run(self, generation: int) -> "Memory":
        """Return what stays known of the job once its run is lost."""
        return Memory(
            generation=generation,
            asked=self.asked,
            alerted=list(self.alerted),
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
            if self.value_seen_at is not None:
                self.value_seen_at = now  # a pause is no stall

    def paused_for(self, now: float) -> float:
        """Return how long the job was paused until now, in seconds."""
        return self.paused_s + (max(now - self.paused_at, 0.0) if self.paused_at else 0.0)

    def claim_line(self, event: Event) -> bool:
        """Take an event's console line; say whether it is new."""
        if event.step is not None:
            # As many as there are steps, where the steps have no values: the ledger stays small.
            return self.console.claim(event.step, "error" if event.is_error else "")
        return self.claim_once(event.identity)

    def claim_once(self, identity: int) -> bool:
        """Take a single line by its identity; say whether it is new."""
        if identity in self.seen:
            return False
        self.seen.add(identity)
        return True


_PLAIN: Final = (
    *("attributes", "generation", "doubted", "ended", "end", "looks", "results_read"),
    *("file_looks", "asked", "alerted", "artifacts", "files", "value_seen_at", "paused_at"),
    *("paused_s", "stop_seen", "checkpoints_at", "facts"),
)


def can_load(cursor: Cursor) -> bool:
    """Say whether this version reads what is stored of a job; what it cannot read stays as it is."""
    if cursor.is_unreadable:
        return False
    try:
        Memory.load(cursor.state, cursor.curve)
    except Exception:  # whatever the other version's shape makes of it
        return False
    return True
