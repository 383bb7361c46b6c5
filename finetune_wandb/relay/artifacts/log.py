"""Lineage of finished jobs: data set in, checkpoints, result file and model out.

Has what a job left behind logged by the artifact port, and then gives the run its own attributes
and end back: the SDK that logs artifacts resumes the run and rewrites both.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.cursor import Cursor
from finetune_wandb.model.errors import AppError, TemporaryError, UnavailableError
from finetune_wandb.model.relay_ports import ArtifactResult, JobArtifacts, RunKey
from finetune_wandb.relay.artifacts.left_behind import LeftBehind, gather
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.ports import RelayPorts
from finetune_wandb.relay.run import wire
from finetune_wandb.relay.run.attributes import run_attributes

_TRIES: Final = 5


class ArtifactPort(Protocol):
    """Logs artifacts to runs that exist."""

    async def log(self, jobs: Sequence[JobArtifacts], *, key: RunKey) -> list[ArtifactResult]: ...


@dataclass(frozen=True, slots=True)
class ArtifactOutcome:
    """What came of one job's artifacts. `error` is empty when all are logged."""

    job: str
    logged: tuple[str, ...] = ()
    error: str = ""
    again: bool = False
    """Worth another try: nothing is wrong with the job itself."""


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

    Raises our errors only where no job could be begun: no cursor or no key can be had.
    """
    cursors = await ports.cursors.read(account.key, job_ids)
    due = [cursor for cursor in cursors.values() if _is_due(cursor)]
    if not due:
        return []
    key = await ports.keys.run_key(account.secret)
    outcomes: list[ArtifactOutcome] = []
    with ExitStack() as stack:
        work: list[LeftBehind] = []
        for cursor in due:
            assert cursor.run is not None, "only jobs with a run are due"
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="job-")))
            try:
                work.append(
                    await gather(
                        account,
                        cursor.job,
                        cursor.run,
                        jobs=ports.jobs,
                        folder=folder,
                        with_content=with_content,
                    )
                )
            except AppError as error:
                outcomes.append(_failed(cursor.job, error))
        results = await _logged([one.artifacts for one in work], artifacts, key)
    for left, result in zip(work, results, strict=True):
        outcome = ArtifactOutcome(left.job.id, result.logged, result.error, result.lost)
        try:
            await _give_back(account, left, not result.error, ports, options, key, clock)
        except AppError as error:
            outcome = _failed(left.job.id, error)
        outcomes.append(outcome)
    return outcomes


def _is_due(cursor: Cursor) -> bool:
    state = cursor.state
    return cursor.run is not None and bool(state.get("ended")) and state.get("artifacts") != "done"


def _failed(job: str, error: AppError) -> ArtifactOutcome:
    return ArtifactOutcome(job, error=error.message, again=isinstance(error, TemporaryError))


async def _logged(
    tasks: Sequence[JobArtifacts], artifacts: ArtifactPort, key: RunKey
) -> list[ArtifactResult]:
    """Return one result for each task, in their order."""
    if not tasks:
        return []
    found: dict[str, ArtifactResult] = {}
    cause = "logging it came to no end"
    try:
        found = {result.job: result for result in await artifacts.log(tasks, key=key)}
    except UnavailableError as error:
        # The process may have got as far as reviving the runs: each still gets its end back.
        cause = error.message
    return [
        found.get(task.job) or ArtifactResult(task.job, error=cause, lost=True) for task in tasks
    ]


async def _give_back(
    account: RelayAccount,
    left: LeftBehind,
    done: bool,
    ports: RelayPorts,
    options: RelayOptions,
    key: RunKey,
    clock: Callable[[], float],
) -> None:
    """Write the run's attributes, now with the files' facts, and its summary and end again."""
    job = left.job
    for _ in range(_TRIES):
        cursor = (await ports.cursors.read(account.key, [job.id])).get(job.id)
        if cursor is None or cursor.run != left.artifacts.run or not cursor.state.get("ended"):
            return  # the run was lost and is being written anew, as another one
        memory, now = Memory.load(cursor.state, cursor.curve), clock()
        memory.files = left.facts
        memory.artifacts = "done" if done else memory.artifacts
        attributes = run_attributes(job, account, asked=memory.asked or {}, files=left.facts)
        await ports.sink.ensure_run(left.artifacts.run, attributes, pending=False, key=key)
        summary = memory.summary
        end = wire.body(
            rows=(),
            row_offset=cursor.rows,
            lines=(),
            line_offset=cursor.lines,
            summary=summary.render(
                job,
                rows=cursor.rows,
                last_at=cursor.last_value_at,
                meter=summary.meter(job, options.prices, paused_s=memory.paused_for(now), now=now),
            ),
            exitcode=wire.exit_code(job.status),
        )
        await ports.sink.post(left.artifacts.run, end, key=key)
        memory.end = end.decode()
        cursor.state = memory.dump()
        if not await ports.cursors.save([cursor]):
            return
