"""What the relay remembers of one job between passes, in the cursor's opaque state."""

from typing import Any

from finetune_wandb.model.job import Job
from finetune_wandb.relay.passes.ledger import Ledger
from finetune_wandb.relay.published.events import Event
from finetune_wandb.relay.published.listing import Hints
from finetune_wandb.relay.run.curve import Curve
from finetune_wandb.relay.run.summary import Summary


class Memory:
    """Loaded from a cursor's state, changed by a pass, dumped back."""

    def __init__(self, state: dict[str, Any], curve: dict[str, Any] | None = None) -> None:
        self.curve = Curve(curve or {})
        """Kept beside the state: people look at it."""
        self.ledger = Ledger.load(state.get("ledger"))
        """Values that are in the run or in the outbox."""
        self.summary = Summary(state.get("summary"))
        self.hints = Hints.load(state.get("hints"))
        self.attributes: int | None = state.get("attributes")
        """Hash of the run's attributes as W&B has them."""
        self.generation: int = state.get("generation", 1)
        """1 for the job's own run id; more after a run was deleted."""
        self.ended: bool = state.get("ended", False)
        """The run has its end, or the outbox holds it."""
        self.looks: int = state.get("looks", 0)
        """How often late values were looked for after the end."""
        self.results_read: list[str] = list(state.get("results_read", ()))
        """Ids of the result files that were read to their end."""
        self.file_looks: int = state.get("file_looks", 0)
        """How many looks beyond the last there were for a result file that broke off."""
        self.asked: dict[str, Any] | None = state.get("asked")
        """Hyperparameters as they were when the job was first seen."""
        self.alerted: list[str] = list(state.get("alerted", ()))
        self.artifacts: str = state.get("artifacts", "")
        """`sent` once the job's artifacts were asked for, `done` once they are logged."""
        self.files: dict[str, Any] = state.get("files", {})
        """Facts of the job's files, known once its artifacts are logged."""
        self.value_seen_at: float | None = state.get("value_seen_at")
        """When the relay last met a new value, or a pause ended after it (unix seconds)."""
        self.paused_at: float | None = state.get("paused_at")
        """Since when the job is paused (unix seconds); None while it is not."""
        self.paused_s: float = state.get("paused_s", 0.0)
        """How long it was paused before, in seconds."""
        self.stop_seen: bool = state.get("stop_seen", False)
        self.facts: int | None = state.get("facts")
        """Hash of what the last summary took from the job object."""
        self.end: str = state.get("end", "")
        """Body that says the run's end and last summary again; empty while the job lives."""
        self.doubt_at: float = state.get("doubt_at", 0.0)
        """Since when a request of another pass may be under way that the run's end does not know
        of (unix seconds); 0 for none."""
        self.quiet_at: float = state.get("quiet_at", 0.0)
        """When a request that claims nothing was begun whose answer is not known to have come
        (unix seconds); 0 for none."""
        self._lines = Ledger.load(state.get("lines"))
        self._seen: set[int] = set(state.get("seen", ()))

    def dump(self) -> dict[str, Any]:
        return {
            "ledger": self.ledger.dump(),
            "summary": self.summary.state(),
            "hints": self.hints.dump(),
            "attributes": self.attributes,
            "generation": self.generation,
            "ended": self.ended,
            "looks": self.looks,
            "results_read": self.results_read,
            "file_looks": self.file_looks,
            "asked": self.asked,
            "alerted": list(self.alerted),
            "artifacts": self.artifacts,
            "files": self.files,
            "value_seen_at": self.value_seen_at,
            "paused_at": self.paused_at,
            "paused_s": self.paused_s,
            "stop_seen": self.stop_seen,
            "facts": self.facts,
            "end": self.end,
            "doubt_at": self.doubt_at,
            "quiet_at": self.quiet_at,
            "lines": self._lines.dump(),
            "seen": sorted(self._seen),
        }

    def see_status(self, job: Job, now: float) -> None:
        """Keep the time that the job is paused: Azure does not bill it."""
        if job.is_paused:
            self.paused_at = now if self.paused_at is None else self.paused_at
        elif self.paused_at is not None:
            end = now if job.finished_at is None else min(now, job.finished_at)
            self.paused_s += max(end - self.paused_at, 0.0)
            self.paused_at = None
            if self.value_seen_at is not None:
                self.value_seen_at = now  # what was silent in a pause is not stalled after it

    def paused_for(self, now: float) -> float:
        """Return how long the job was paused until now, in seconds."""
        return self.paused_s + (max(now - self.paused_at, 0.0) if self.paused_at else 0.0)

    def claim_line(self, event: Event) -> bool:
        """Take an event's console line; say whether it is new."""
        if event.step is not None:
            # As many as there are steps, where the steps have no values: the ledger stays small.
            return self._lines.claim(event.step, "error" if event.is_error else "")
        return self.claim_once(event.identity)

    def claim_once(self, identity: int) -> bool:
        """Take a single line by its identity; say whether it is new."""
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True
