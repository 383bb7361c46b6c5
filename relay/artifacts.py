"""Lineage of finished jobs: data set in, checkpoints, result file and model out.

Reads what the job left behind, has it logged by the artifact port, and then gives the run its
own attributes and end back: the SDK that logs artifacts resumes the run and rewrites both.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from model.account import RelayAccount
from model.artifact import ArtifactFile, ArtifactResult, JobArtifacts
from model.cursor import Cursor
from model.errors import AppError
from model.job import Job, parse_job
from model.relay_ports import RunKey
from relay import wire
from relay.attributes import run_attributes
from relay.cost import cost_so_far, training_hours
from relay.data_set import COLUMNS, FileFacts, measure, table_rows
from relay.memory import Memory
from relay.metrics import metrics_of, step_of
from relay.options import RelayOptions
from relay.ports import RelayPorts

_MOST_MEASURED: Final = 512 * 1024 * 1024
"""Bytes of a training file that are read for its hash; larger ones keep to name and size."""
_TRIES: Final = 5
_CHECKPOINTS: Final = 100


class ArtifactPort(Protocol):
    """Logs artifacts to runs that exist."""

    async def log(self, jobs: Sequence[JobArtifacts], *, key: RunKey) -> list[ArtifactResult]: ...


@dataclass(frozen=True, slots=True)
class ArtifactOutcome:
    """What came of one job's artifacts. `error` is empty when all are logged."""

    job: str
    logged: tuple[str, ...] = ()
    error: str = ""


async def log_artifacts(
    account: RelayAccount,
    job_ids: Sequence[str],
    *,
    ports: RelayPorts,
    artifacts: ArtifactPort,
    options: RelayOptions,
    clock: Callable[[], float],
    with_content: bool,
) -> list[ArtifactOutcome]:
    """Log the artifacts of these jobs, once each; one outcome for each that had work.

    Raises TemporaryError when no key or no cursor can be had, or the logging itself failed.
    """
    cursors = await ports.cursors.read(account.key, job_ids)
    due = [
        cursor
        for cursor in cursors.values()
        if cursor.run is not None and cursor.state.get("ended") and not _is_done(cursor)
    ]
    if not due:
        return []
    key = await ports.keys.run_key(account.vault_host, account.secret)
    outcomes: list[ArtifactOutcome] = []
    with ExitStack() as stack:
        work: list[tuple[Job, JobArtifacts, dict[str, Any]]] = []
        for cursor in due:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="job-")))
            try:
                work.append(await _gather(account, cursor, ports, folder, with_content))
            except AppError as error:
                outcomes.append(ArtifactOutcome(cursor.job, error=error.message))
        results = await artifacts.log([one[1] for one in work], key=key) if work else []
    by_run = {result.run_id: result for result in results}
    for job, task, facts in work:
        result = by_run.get(task.run.run_id) or ArtifactResult(task.run.run_id, error="no result")
        await _give_back(account, job, facts, not result.error, ports, options, key, clock)
        outcomes.append(ArtifactOutcome(job.id, result.logged, result.error))
    return outcomes


def _is_done(cursor: Cursor) -> bool:
    return cursor.state.get("artifacts") == "done"


async def _gather(
    account: RelayAccount, cursor: Cursor, ports: RelayPorts, folder: Path, with_content: bool
) -> tuple[Job, JobArtifacts, dict[str, Any]]:
    """Read what one job left behind; return job, artifacts and the facts for its config."""
    job = parse_job(await ports.jobs.read_job(account, cursor.job))
    assert job is not None, "a job that was relayed has an id"
    assert cursor.run is not None, "only jobs with a run are due"
    files: list[ArtifactFile] = []
    tables: dict[str, list[list[Any]]] = {}
    facts: dict[str, Any] = {}
    for role, file_id in (("training", job.training_file), ("validation", job.validation_file)):
        if not file_id:
            continue
        path = folder / role if with_content else None
        found, kept = await _file(account, file_id, ports, path)
        facts[f"{role}_file_facts"] = found.to_json()
        files.append(
            ArtifactFile(
                role=role, id=file_id, metadata=found.to_json(), path=str(path) if kept else ""
            )
        )
        if path is not None and kept:
            with path.open(encoding="utf-8", errors="replace") as lines:
                tables[file_id] = table_rows(lines)
    if job.result_files:
        path = folder / "result"
        found, kept = await _file(account, job.result_files[0], ports, path)
        if kept:
            files.append(
                ArtifactFile(
                    role="result",
                    id=job.result_files[0],
                    metadata=found.to_json(),
                    path=str(path),
                )
            )
    columns, rows = _checkpoint_table(await _checkpoints(account, job, ports))
    task = JobArtifacts(
        run=cursor.run,
        exit_code=wire.exit_code(job.status),
        files=tuple(files),
        checkpoint_columns=columns,
        checkpoint_rows=rows,
        model=_model(job, facts),
        table_columns=COLUMNS if tables else (),
        tables=tables,
    )
    return job, task, facts


async def _file(
    account: RelayAccount, file_id: str, ports: RelayPorts, path: Path | None
) -> tuple[FileFacts, bool]:
    """Return a file's facts, and whether its content was kept at `path`.

    A file that may not be read, or is gone, keeps to what is known of it.
    """
    name, size = "", None
    try:
        described = await ports.jobs.describe_file(account, file_id)
        name = str(described.get("filename") or "")
        size = described.get("bytes") if isinstance(described.get("bytes"), int) else None
        if size is not None and size > _MOST_MEASURED:
            return FileFacts(file_id, name, size), False
        chunks: AsyncIterator[bytes] = ports.jobs.read_file(account, file_id)
        if path is None:
            return await measure(file_id, name, chunks, None), False
        with path.open("wb") as target:
            return await measure(file_id, name, chunks, target.write), True
    except AppError:
        return FileFacts(file_id, name, size), False


async def _checkpoints(
    account: RelayAccount, job: Job, ports: RelayPorts
) -> list[Mapping[str, Any]]:
    try:
        return list((await ports.jobs.list_checkpoints(account, job.id, None, _CHECKPOINTS)).items)
    except AppError:
        return []


def _checkpoint_table(
    checkpoints: Sequence[Mapping[str, Any]],
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    known: list[tuple[int, str, dict[str, Any]]] = []
    for item in checkpoints:
        step, metrics = step_of(item.get("step_number")), item.get("metrics")
        if step is not None and isinstance(metrics, Mapping):
            model = item.get("fine_tuned_model_checkpoint")
            known.append((step, str(model or ""), dict(metrics_of(metrics))))
    names = sorted({name for _, _, values in known for name in values})
    rows = tuple(
        (step, model, *(values.get(name) for name in names))
        for step, model, values in sorted(known, key=lambda one: one[0])
    )
    return ("step", "model", *names), rows


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


async def _give_back(
    account: RelayAccount,
    job: Job,
    facts: dict[str, Any],
    done: bool,
    ports: RelayPorts,
    options: RelayOptions,
    key: RunKey,
    clock: Callable[[], float],
) -> None:
    """Write the run's attributes, now with the files' facts, and its summary and end again."""
    for _ in range(_TRIES):
        cursor = (await ports.cursors.read(account.key, [job.id])).get(job.id)
        if cursor is None or cursor.run is None:
            return
        memory = Memory(cursor.state)
        memory.files = facts
        memory.artifacts = "done" if done else memory.artifacts
        attributes = run_attributes(job, account, asked=memory.asked or {}, files=facts)
        cursor.run = await ports.sink.ensure_run(cursor.run, attributes, pending=False, key=key)
        memory.attributes = None
        hours = training_hours(
            job,
            started_at=memory.summary.started_at,
            billed_hours=memory.summary.billed_hours,
            now=clock(),
        )
        end = wire.body(
            rows=(),
            row_offset=cursor.rows,
            lines=(),
            line_offset=cursor.lines,
            summary=memory.summary.render(
                job,
                rows=cursor.rows,
                last_at=cursor.last_value_at,
                cost=cost_so_far(job, options.prices, hours=hours),
            ),
            exitcode=wire.exit_code(job.status),
        )
        await ports.sink.post(cursor.run, end, key=key)
        cursor.state = memory.dump()
        if not await ports.cursors.save([cursor]):
            return
