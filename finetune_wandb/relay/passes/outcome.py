"""What came of one job in one pass, for whoever asked for the pass."""

from dataclasses import dataclass

from finetune_wandb.model.errors import TemporaryError
from finetune_wandb.relay.passes.job_pass import JobPass


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What came of one job in one pass. `values` is how many were sent."""

    job: str
    relay_state: str
    values: int = 0
    error: str = ""
    remedy: str = ""
    key_refused: bool = False
    wants_artifacts: bool = False
    temporary: bool = False
    lag_s: float | None = None
    """How long after Azure published them the newest of these values were in W&B."""


def outcome_of(item: JobPass, *, lost: bool) -> JobOutcome:
    """Return the outcome of a settled pass; `lost` says that another worker saved the job first."""
    if lost:
        # The other worker's outcome counts; ours would describe a state that is not stored.
        return JobOutcome(item.job.id, "overtaken")
    error = item.error or item.broken
    return JobOutcome(
        item.job.id,
        item.cursor.relay_state,
        values=item.sent_values,
        error=error.message if error else "",
        remedy=error.remedy if error else "",
        key_refused=item.key_refused
        or (item.key_missing and not isinstance(error, TemporaryError)),
        wants_artifacts=item.wants_artifacts,
        temporary=isinstance(error, TemporaryError),
        lag_s=item.cursor.lag_s if item.sent_values else None,
    )
