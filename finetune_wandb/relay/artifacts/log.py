"""Lineage of finished jobs: data sets in; checkpoints, result files and model out.

Decides which artifacts a job gets and what is in them; uploading them is the port's. Few jobs at
a time, and one file of a job at a time, so that memory and disk stay small whatever the jobs hold.
"""

import asyncio
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    MissingError,
    PermanentError,
    TemporaryError,
)
from finetune_wandb.model.relay.artifact import (
    Artifact,
    ArtifactFile,
    ArtifactPort,
    json_file,
    table_file,
)
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.relay.artifacts.files import (
    COLUMNS,
    FileFacts,
    read_copy,
    read_result,
    table_rows,
)
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.place import RunPlace
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.published.rows import checkpoint_table
from finetune_wandb.relay.published.sources import list_checkpoints

_AT_ONCE: Final = 4
"""Jobs in a process; nearly all of a job's time is waiting."""
_AT_ONCE_WITH_CONTENT: Final = 2
"""Each can have a whole file on the disk."""
_MOST_READ: Final = 512 * 1024 * 1024
"""Bytes of a file that are read; larger ones keep to name and size. Azure takes no larger ones."""
_MOST_KNOWN: Final = 1000
_TRIES: Final = 5
_BAD_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME: Final = 128


@dataclass(frozen=True, slots=True)
class ArtifactOutcome:
    """What came of one job's artifacts. `error` is empty when all are logged."""

    job: str
    error: str = ""
    again: bool = False
    """Another try can help: the job itself has no fault."""
    begun: bool = True
    """False where other jobs took all the time."""


@dataclass(frozen=True, slots=True)
class _DataSet:
    """What stays known of a file that was read: its facts, and the files of its artifact."""

    facts: FileFacts
    found: tuple[ArtifactFile, ...]

    def files(self, folder: Path) -> tuple[ArtifactFile, ...]:
        """Return the files, their content in this folder."""
        return tuple(
            replace(one, content=folder / one.content.name)
            if isinstance(one.content, Path)
            else one
            for one in self.found
        )


class ArtifactLog:
    """Logs the artifacts of finished jobs, once each. One per process."""

    def __init__(
        self,
        ports: RelayPorts,
        artifacts: ArtifactPort,
        *,
        with_content: bool,
    ) -> None:
        self._ports = ports
        self._artifacts = artifacts
        self._with_content = with_content
        self._turns = asyncio.Semaphore(_AT_ONCE_WITH_CONTENT if with_content else _AT_ONCE)
        self._known: dict[tuple[str, str], _DataSet] = {}
        """By account and file id: jobs share data sets, and files never change."""
        self._reading: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def log(
        self, account: RelayAccount, job_ids: Sequence[str], *, budget_s: float
    ) -> list[ArtifactOutcome]:
        """Log the artifacts of these jobs; return one outcome for each that had work.

        What is not done after `budget_s` seconds is given up for this time. Raises our errors
        where storage does not say which jobs have work.
        """
        cursors = await self._ports.cursors.read(account.key, job_ids)
        due = {cursor.job: cursor.run for cursor in cursors.values() if _is_due(cursor)}
        if not due:
            return []
        try:
            key = await self._ports.keys.run_key(account.secret)
        except AppError as error:
            return [_failed(job, error) for job in due]
        begun: set[str] = set()
        tasks = {
            job: asyncio.create_task(self._in_turn(account, job, run, key, begun))
            for job, run in due.items()
            if run is not None
        }
        try:
            await asyncio.wait(tasks.values(), timeout=budget_s)
        finally:
            late = {job for job, task in tasks.items() if task.cancel()}
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return [
            ArtifactOutcome(
                job,
                error=f"not done within {budget_s:.0f} seconds",
                again=True,
                begun=job in begun,
            )
            if job in late
            else task.result()
            for job, task in tasks.items()
        ]

    async def _in_turn(
        self, account: RelayAccount, job_id: str, run: RunPath, key: RunKey, begun: set[str]
    ) -> ArtifactOutcome:
        async with self._turns:
            begun.add(job_id)
            try:
                job, facts = await self._log_all(account, job_id, run, key)
                await self._note(account, job, run, facts, key)
            except AppError as error:
                return _failed(job_id, error)
        return ArtifactOutcome(job_id)

    async def _log_all(
        self, account: RelayAccount, job_id: str, run: RunPath, key: RunKey
    ) -> tuple[Job, dict[str, Any]]:
        """Log a job's artifacts; return the job and the facts of its files, for the run's config."""
        jobs = self._ports.jobs
        job = parse_job(await jobs.read_job(account, job_id))
        if job is None:
            raise MissingError("the fine-tuning API answered another object", subject=job_id)
        facts: dict[str, Any] = {}
        for role, file_id in (("training", job.training_file), ("validation", job.validation_file)):
            if file_id:
                facts[f"{role}_file_facts"] = await self._use(account, file_id, run, key)
        for number, file_id in enumerate(job.result_files):
            with tempfile.TemporaryDirectory() as folder:
                if result := await self._result(account, file_id, run, number, Path(folder)):
                    await self._artifacts.log(run, result, key=key)
        columns, rows = checkpoint_table((await list_checkpoints(jobs, account, job.id))[0])
        if rows:
            with tempfile.TemporaryDirectory() as folder:
                table = table_file("checkpoints", columns, rows, Path(folder) / "checkpoints")
                made = _artifact("checkpoints", "checkpoints", run.run_id, {}, (table,))
                await self._artifacts.log(run, made, key=key)
        if model := _model(job, facts):
            files = (json_file("model.json", model),)
            made = _artifact("model", "model", run.run_id, model, files)
            await self._artifacts.log(run, made, key=key)
        return job, facts

    async def _use(
        self, account: RelayAccount, file_id: str, run: RunPath, key: RunKey
    ) -> dict[str, Any]:
        """Log a data set as used by the run; return its facts.

        A file that many jobs share is read once: W&B has its version then.
        """
        place = (account.key, file_id)
        lock = self._reading.setdefault(place, asyncio.Lock())
        with tempfile.TemporaryDirectory() as folder:
            fetch = None
            async with lock:
                if known := self._known.get(place):
                    fetch = partial(self._read_again, account, known.facts, Path(folder))
                else:
                    known = await self._read(account, file_id, Path(folder))
                    if known.facts.sha256 is not None:
                        if len(self._known) >= _MOST_KNOWN:
                            self._known.pop(next(iter(self._known)))
                        self._known[place] = known
            facts = known.facts.to_json()
            used = _artifact("dataset", "dataset", file_id, facts, known.files(Path(folder)))
            await self._artifacts.log(run, replace(used, used=True, fetch=fetch), key=key)
        return facts

    async def _read(self, account: RelayAccount, file_id: str, folder: Path) -> _DataSet:
        """Read a data set, with its content where that is wanted.

        A file that may not be read, or is gone, keeps to what is known of it.
        """
        facts, kept = FileFacts(file_id), None
        with suppress(PermanentError):
            facts = await self._described(account, file_id)
            if facts.size is None or facts.size <= _MOST_READ:
                path = folder / "content" if self._with_content else None
                copy = await read_copy(self._ports.jobs.read_file(account, file_id), path)
                facts, kept = facts.measured(copy), path
        files = [json_file("facts.json", facts.to_json())]
        if kept:
            name = Path(facts.name).name.strip(".") or "data.jsonl"
            files.append(copy.file(f"content/{name}", kept))
            with kept.open(encoding="utf-8", errors="replace") as lines:
                table = table_file("rows", COLUMNS, table_rows(lines), folder / "rows")
            files.append(table)
        return _DataSet(facts, tuple(files))

    async def _read_again(self, account: RelayAccount, facts: FileFacts, folder: Path) -> None:
        """Read a data set that W&B does not hold in this project."""
        if not self._with_content:
            return
        if (await self._read(account, facts.id, folder)).facts != facts:
            raise MissingError("a data set of the job is gone", subject=facts.id)

    async def _result(
        self, account: RelayAccount, file_id: str, run: RunPath, number: int, folder: Path
    ) -> Artifact | None:
        """Return a result file's artifact, None where there is none to read."""
        path = folder / "result"
        try:
            known = await self._described(account, file_id)
            chunks = self._ports.jobs.read_file(account, file_id)
            copy, has_text = await read_result(chunks, path)
        except PermanentError:
            return None
        facts = known.measured(copy).to_json()
        files = [json_file("facts.json", facts)]
        if self._with_content or not has_text:
            files.append(copy.file("results.csv", path))
        # A dot, since a dash and a number name the run that replaces a deleted one.
        name = f"{run.run_id}.{number + 1}" if number else run.run_id
        return _artifact("results", "result", name, facts, tuple(files))

    async def _described(self, account: RelayAccount, file_id: str) -> FileFacts:
        answer = await self._ports.jobs.describe_file(account, file_id)
        name, size = answer.get("filename"), answer.get("bytes")
        return FileFacts(
            file_id,
            name if isinstance(name, str) else "",
            size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        )

    async def _note(
        self, account: RelayAccount, job: Job, run: RunPath, facts: dict[str, Any], key: RunKey
    ) -> None:
        """Remember that the artifacts are logged, and add the files' facts to the run's config."""
        for _ in range(_TRIES):
            cursor = (await self._ports.cursors.read(account.key, [job.id])).get(job.id)
            if cursor is None or cursor.run != run:
                return
            memory = Memory.of(cursor)
            if not memory.ended:
                return  # the run was lost and is being written anew
            memory.files, memory.artifacts = facts, "done"
            place = RunPlace(job, account, memory, self._ports.sink, key)
            await place.ensure(cursor, pending=False)
            memory.put_into(cursor)
            if not await self._ports.cursors.save([cursor]):
                return
        raise ConflictError("other workers keep on writing the job first", subject=job.id)


def _is_due(cursor: Cursor) -> bool:
    memory = Memory.readable(cursor)
    if memory is None:
        return False
    # The checkpoints that there are at a pause are what people choose from.
    is_still = memory.ended or cursor.status == "paused"
    return cursor.run is not None and is_still and memory.artifacts != "done"


def _failed(job: str, error: AppError) -> ArtifactOutcome:
    return ArtifactOutcome(job, error.message, again=isinstance(error, TemporaryError))


def _artifact(
    kind: str, type_: str, of: str, facts: Mapping[str, Any], files: tuple[ArtifactFile, ...]
) -> Artifact:
    """Return the artifact of this kind; ids that W&B takes only in part stay apart."""
    name = f"{kind}-{_BAD_IN_NAME.sub('_', of)}"
    if len(name) > _LONGEST_NAME or not name.endswith(of):
        mark = f"-{zlib.crc32(of.encode('utf-8', 'replace')):08x}"
        name = name[: _LONGEST_NAME - len(mark)] + mark
    return Artifact(name=name, type=type_, files=files, metadata=facts)


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
