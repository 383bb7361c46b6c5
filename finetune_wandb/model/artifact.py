"""What of a finished job becomes W&B artifacts; plain values, ready for another process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_wandb.model.cursor import RunPath


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """A file of the job. `path` is where its content lies, empty for metadata alone."""

    role: str
    """`training`, `validation` or `result`."""
    id: str
    metadata: Mapping[str, Any]
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArtifacts:
    """Everything to be logged for one run."""

    job: str
    run: RunPath
    exit_code: int
    files: tuple[ArtifactFile, ...] = ()
    checkpoint_columns: tuple[str, ...] = ()
    checkpoint_rows: tuple[tuple[Any, ...], ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    """The fine-tuned model's facts; empty when there is none."""
    table_columns: tuple[str, ...] = ()
    tables: Mapping[str, list[list[Any]]] = field(default_factory=dict)
    """Rows to show by file id, only where content is wanted."""


@dataclass(frozen=True, slots=True)
class ArtifactResult:
    """What became of one job's artifacts. `error` is empty when all are logged."""

    job: str
    logged: tuple[str, ...] = ()
    error: str = ""
    lost: bool = False
    """The logging itself came to no end for this run, and is worth another try."""
