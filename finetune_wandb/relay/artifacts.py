"""Lineage of finished jobs, as W&B artifacts: data sets in; checkpoints, result files, model out.

Decides which artifacts a job gets and what is in them; uploading them is the port's. Few jobs at
a time, and one file of a job at a time, so that memory and disk stay small whatever the jobs hold.
"""

import asyncio
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any, Final, NamedTuple
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
    Copy,
    json_file,
    table_file,
)
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import Job, parse_job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.relay.data_set import COLUMNS, table_rows
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.passes.place import RunPlace
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.published.results import ResultCount, read_records
from finetune_wandb.relay.published.rows import checkpoint_table, number_in
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

type _Facts = dict[str, Any]
"""What is known of a file: `id`, `name`, `bytes`, `rows`, `sha256`."""


@dataclass(frozen=True, slots=True)
class ArtifactOutcome:
    """What came of one job's artifacts. `error` is empty when all are logged."""

    job: str
    error: str = ""
    again: bool = False
    """Another try can help: the job itself has no fault."""
    begun: bool = True
    """False where other jobs took all the time."""


class _DataSet(NamedTuple):
    """What stays known of a file that was read: its facts, and the files of its artifact."""

    facts: _Facts
    files: tuple[ArtifactFile, ...]


class ArtifactLog:
    """Logs the artifacts of finished jobs, once each. One per process."""

    def __init__(self, ports: RelayPorts, artifacts: ArtifactPort, *, with_content: bool) -> None:
        self._ports, self._artifacts, self._with_content = ports, artifacts, with_content
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
        due = {
            cursor.job: cursor.run for cursor in cursors.values() if cursor.run and _is_due(cursor)
        }
        if not due:
            return []
        try:
            key = await self._ports.keys.run_key(account.secret)
        except AppError as error:
            return [_failed(job, error) for job in due]
        deadline = asyncio.get_running_loop().time() + budget_s

        async def in_turn(job_id: str, run: RunPath) -> ArtifactOutcome:
            begun = False
            try:
                async with asyncio.timeout_at(deadline), self._turns:
                    begun = True
                    job, facts = await self._log_all(account, job_id, run, key)
                    await self._note(account, job, run, facts, key)
            except TimeoutError:
                text = f"not done within {budget_s:.0f} seconds"
                return ArtifactOutcome(job_id, text, again=True, begun=begun)
            except AppError as error:
                return _failed(job_id, error)
            return ArtifactOutcome(job_id)

        found = await asyncio.gather(*starmap(in_turn, due.items()), return_exceptions=True)
        # Raised only now: an error that nobody expects must not take the other jobs' artifacts away.
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in found if isinstance(outcome, ArtifactOutcome)]

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
                made = _artifact("checkpoints", run.run_id, {}, table)
                await self._artifacts.log(run, made, key=key)
        if model := _model(job, facts):
            made = _artifact("model", run.run_id, model, json_file("model.json", model))
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
            async with lock:
                before = self._known.get(place)
                known = before or await self._read(account, file_id, Path(folder))
                if "sha256" in known.facts:
                    self._known[place] = known
                if len(self._known) > _MOST_KNOWN:
                    self._known.pop(next(iter(self._known)))
            fetch = partial(self._read_again, account, known.facts, Path(folder))
            files = (_moved(one, Path(folder)) for one in known.files)
            used = _artifact("dataset", file_id, known.facts, *files)
            await self._artifacts.log(
                run, replace(used, used=True, fetch=fetch if before else None), key=key
            )
        return known.facts

    async def _read(self, account: RelayAccount, file_id: str, folder: Path) -> _DataSet:
        """Read a data set, with its content where that is wanted.

        A file that may not be read, or is gone, keeps to what is known of it.
        """
        facts: _Facts = {"id": file_id}
        kept: Path | None = None
        with suppress(PermanentError):
            facts = await self._described(account, file_id)
            if facts.get("bytes", 0) <= _MOST_READ:
                path = folder / "content" if self._with_content else None
                copy = await read_copy(self._ports.jobs.read_file(account, file_id), path)
                facts, kept = facts | measured(copy), path
        files = [json_file("facts.json", facts)]
        if kept:
            name = Path(facts.get("name", "")).name.strip(".") or "data.jsonl"
            files.append(copy.file(f"content/{name}", kept))
            with kept.open(encoding="utf-8", errors="replace") as lines:
                table = table_file("rows", COLUMNS, table_rows(lines), folder / "rows")
            files.append(table)
        return _DataSet(facts, tuple(files))

    async def _read_again(self, account: RelayAccount, facts: _Facts, folder: Path) -> None:
        """Read a data set that W&B does not hold in this project."""
        if self._with_content and (await self._read(account, facts["id"], folder)).facts != facts:
            raise MissingError("a data set of the job is gone", subject=facts["id"])

    async def _result(
        self, account: RelayAccount, file_id: str, run: RunPath, number: int, folder: Path
    ) -> Artifact | None:
        """Return a result file's artifact, None where there is none to read."""
        path = folder / "result"
        try:
            known = await self._described(account, file_id)
            chunks = self._ports.jobs.read_file(account, file_id)
            copy, has_text = await _read_result(chunks, path)
        except PermanentError:
            return None
        facts = known | measured(copy)
        files = [json_file("facts.json", facts)]
        if self._with_content or not has_text:
            files.append(copy.file("results.csv", path))
        # A dot, since a dash and a number name the run that replaces a deleted one.
        name = f"{run.run_id}.{number + 1}" if number else run.run_id
        return replace(_artifact("results", name, facts, *files), type="result")

    async def _described(self, account: RelayAccount, file_id: str) -> _Facts:
        answer = await self._ports.jobs.describe_file(account, file_id)
        name, size = answer.get("filename"), answer.get("bytes")
        named = {"name": name} if isinstance(name, str) and name else {}
        sized = {"bytes": size} if type(size) is int and size >= 0 else {}
        return {"id": file_id, **named, **sized}

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
            await place.choose(cursor)
            await place.ensure(cursor, pending=False)
            memory.put_into(cursor)
            if not await self._ports.cursors.save([cursor]):
                return
        raise ConflictError("other workers keep on writing the job first", subject=job.id)


async def read_copy(chunks: AsyncIterator[bytes], path: Path | None) -> Copy:
    """Read a file to its end, into `path` where one is given. Raises what `chunks` raises."""
    with path.open("wb") if path else nullcontext() as target:
        copy = Copy(target)
        async for chunk in chunks:
            copy.take(chunk)
    return copy


async def _read_result(chunks: AsyncIterator[bytes], path: Path) -> tuple[Copy, bool]:
    """Write a result file to `path` as plain CSV; say whether it holds anything but numbers: text
    may be identifiers, or whole answers of a model about private data.

    Raises RejectedError where it is damaged, and what `chunks` raises.
    """
    has_text, is_header = False, True
    with path.open("wb") as target:
        copy = Copy(target)
        async for text, records in read_records(chunks, ResultCount()):
            copy.take(text.encode())
            for record in records:
                if is_header and record:
                    is_header = False
                elif any(cell.strip() and number_in(cell) is None for cell in record):
                    has_text = True
    return copy, has_text


def measured(copy: Copy) -> _Facts:
    """Return the facts that a file's content shows."""
    return {"bytes": copy.size, "rows": copy.lines, "sha256": copy.sha256}


def _moved(file: ArtifactFile, folder: Path) -> ArtifactFile:
    content = file.content
    return replace(file, content=folder / content.name) if isinstance(content, Path) else file


def _is_due(cursor: Cursor) -> bool:
    memory = Memory.readable(cursor)
    if memory is None:
        return False
    # The checkpoints that there are at a pause are what people choose from.
    return (memory.ended or cursor.status == "paused") and memory.artifacts != "done"


def _failed(job: str, error: AppError) -> ArtifactOutcome:
    return ArtifactOutcome(job, error.message, again=isinstance(error, TemporaryError))


def _artifact(kind: str, of: str, facts: Mapping[str, Any], *files: ArtifactFile) -> Artifact:
    """Return the artifact of this kind; ids that W&B takes only in part stay apart."""
    name = f"{kind}-{_BAD_IN_NAME.sub('_', of)}"
    if len(name) > _LONGEST_NAME or not name.endswith(of):
        mark = f"-{zlib.crc32(of.encode('utf-8', 'replace')):08x}"
        name = name[: _LONGEST_NAME - len(mark)] + mark
    return Artifact(name=name, type=kind, files=files, metadata=facts)


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
