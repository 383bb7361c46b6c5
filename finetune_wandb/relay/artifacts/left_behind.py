"""What a finished job left behind, read through ports and laid out for its artifacts.

A file that may not be read, or is gone, keeps to what is known of it; a service that does not
answer is worth another try, so its error goes up.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import RunPath
from finetune_wandb.model.errors import MissingError, PermanentError
from finetune_wandb.model.job import Job, parse_job
from finetune_wandb.model.relay_ports import ArtifactFile, JobArtifacts, JobsPort
from finetune_wandb.relay.artifacts.data_set import COLUMNS, FileFacts, measure, table_rows
from finetune_wandb.relay.artifacts.result_copy import copy_result
from finetune_wandb.relay.published.rows import checkpoint_table
from finetune_wandb.relay.published.sources import list_checkpoints
from finetune_wandb.relay.run import wire

_MOST_MEASURED: Final = 512 * 1024 * 1024
"""Bytes of a file that are read for its hash; larger ones keep to name and size."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A job as it is now, its artifacts, and the facts of its files for the run's config."""

    job: Job
    artifacts: JobArtifacts
    facts: dict[str, Any]


async def gather(
    account: RelayAccount,
    job_id: str,
    run: RunPath,
    *,
    jobs: JobsPort,
    folder: Path,
    with_content: bool,
) -> LeftBehind:
    """Read what a job left behind; contents that artifacts need are put into `folder`.

    Raises our errors.
    """
    job = parse_job(await jobs.read_job(account, job_id))
    if job is None:
        raise MissingError("the fine-tuning API answered another object", subject=job_id)
    files: list[ArtifactFile] = []
    tables: dict[str, list[list[Any]]] = {}
    facts: dict[str, Any] = {}
    for role, file_id in (("training", job.training_file), ("validation", job.validation_file)):
        if not file_id:
            continue
        path = folder / role
        found, kept = await _data_set(account, file_id, jobs, path if with_content else None)
        known = facts[f"{role}_file_facts"] = found.to_json()
        files.append(
            ArtifactFile(role=role, id=file_id, metadata=known, path=str(path) if kept else "")
        )
        if kept:
            with path.open(encoding="utf-8", errors="replace") as lines:
                tables[file_id] = table_rows(lines)
    for number, file_id in enumerate(job.result_files):
        path = folder / f"result{number}"
        result = await _result(account, file_id, jobs, path, with_content)
        files.extend([result] if result else [])
    columns, rows = checkpoint_table((await list_checkpoints(jobs, account, job.id))[0])
    artifacts = JobArtifacts(
        job=job.id,
        run=run,
        exit_code=wire.exit_code(job.status),
        files=tuple(files),
        checkpoint_columns=columns,
        checkpoint_rows=rows,
        model=_model(job, facts),
        table_columns=COLUMNS if tables else (),
        tables=tables,
    )
    return LeftBehind(job, artifacts, facts)


async def _data_set(
    account: RelayAccount, file_id: str, jobs: JobsPort, path: Path | None
) -> tuple[FileFacts, bool]:
    """Return a file's facts, and whether its content was kept at `path`."""
    known = FileFacts(file_id)
    try:
        known = await _described(account, file_id, jobs)
        if known.size is not None and known.size > _MOST_MEASURED:
            return known, False
        chunks: AsyncIterator[bytes] = jobs.read_file(account, file_id)
        if path is None:
            return await measure(file_id, known.name, chunks, None), False
        with path.open("wb") as target:
            return await measure(file_id, known.name, chunks, target.write), True
    except PermanentError:
        return known, False


async def _result(
    account: RelayAccount, file_id: str, jobs: JobsPort, path: Path, with_content: bool
) -> ArtifactFile | None:
    """Return a job's result file, None where there is none to read."""
    try:
        known = await _described(account, file_id, jobs)
        with path.open("wb") as target:
            has_text = await copy_result(jobs.read_file(account, file_id), target.write)
    except PermanentError:
        return None
    with path.open("rb") as copy:
        facts = await measure(file_id, known.name, _pieces(copy.read), None)
    return ArtifactFile(
        role="result",
        id=file_id,
        metadata=facts.to_json(),
        path="" if has_text and not with_content else str(path),
    )


async def _pieces(read: Any) -> AsyncIterator[bytes]:
    while piece := read(1024 * 1024):
        yield piece


async def _described(account: RelayAccount, file_id: str, jobs: JobsPort) -> FileFacts:
    answer = await jobs.describe_file(account, file_id)
    name, size = answer.get("filename"), answer.get("bytes")
    return FileFacts(
        file_id,
        name if isinstance(name, str) else "",
        size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
    )


def _model(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    if not job.fine_tuned_model:
        return {}
    return {
        "fine_tuned_model": job.fine_tuned_model,
        "base_model": job.model,
        "job": job.id,
        "method": job.method or "supervised",
        "hyperparameters": dict(job.hyperparameters),
        "trained_tokens": job.trained_tokens,
        "training_file": facts.get("training_file_facts", {}),
        "validation_file": facts.get("validation_file_facts", {}),
    }
