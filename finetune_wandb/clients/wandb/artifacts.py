"""Artifacts through the wandb SDK, in a short-lived process of its own.

The SDK keeps threads, a helper process, signal handlers and global credentials; none of that
may come near the relay. The key goes to the process through its standard input, so that it is
neither in arguments nor in the environment.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import orjson

from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay_ports import ArtifactResult, JobArtifacts, RunKey

_ROOT: Final = Path(__file__).resolve().parents[3]
_AT_ONCE: Final = 2
"""Processes; each takes some 200 MB with the SDK's helper."""
_MOST_KNOWN: Final = 10_000
_PASSED_ON: Final = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "TMPDIR",
    "TEMP",
    "SYSTEMROOT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
"""The process gets no other variable: none of the app's settings concerns it."""


class Artifacts:
    """ArtifactPort. A process for some jobs of one account, and few of them at a time."""

    def __init__(
        self,
        base_url: str,
        *,
        module: str = "finetune_wandb.clients.wandb.artifact_process",
        start_s: float = 120.0,
        per_job_s: float = 60.0,
    ) -> None:
        """`module` is what the process runs. It has `start_s` and `per_job_s` for each job."""
        self._base_url = base_url
        self._module = module
        self._start_s = start_s
        self._per_job_s = per_job_s
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._turns = _Turns()

    async def log(self, jobs: Sequence[JobArtifacts], *, key: RunKey) -> list[ArtifactResult]:
        """Log the artifacts of these runs; one result each, in their order.

        A job that the process did not get through has a result that says so. Raises
        UnavailableError when the process came to nothing at all.
        """
        async with self._turns.of(jobs), self._limit:
            with tempfile.TemporaryDirectory(prefix="wandb-") as folder:
                done, problem = await self._run(jobs, key, folder)
            self._turns.note(job for job in jobs if job.job in done and not done[job.job].error)
        if not done:
            raise problem
        return [
            done.get(job.job) or ArtifactResult(job.job, error=problem.message, lost=True)
            for job in jobs
        ]

    async def _run(
        self, jobs: Sequence[JobArtifacts], key: RunKey, folder: str
    ) -> tuple[dict[str, ArtifactResult], UnavailableError]:
        """Return the results by job, and why there are no more of them."""
        task = orjson.dumps(
            {
                "base_url": self._base_url,
                "key": (await key.current()).reveal(),
                "folder": folder,
                "jobs": [asdict(job) for job in jobs],
            }
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # What the SDK prints may hold anything; only the result is read.
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            | {"HOME": folder, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            cwd=_ROOT,
            start_new_session=True,
        )
        done: dict[str, ArtifactResult] = {}
        try:
            async with asyncio.timeout(self._start_s + self._per_job_s * len(jobs)):
                await asyncio.gather(_give(process, task), _take(process, done))
                await process.wait()
        except TimeoutError:
            return done, UnavailableError("logging artifacts took too long", code="ArtifactTimeout")
        finally:
            _kill(process)
            await process.wait()
        return done, UnavailableError(
            f"the process that logs artifacts ended early (code {process.returncode})",
            code="ArtifactProcess",
        )


class _Turns:
    """Lets no two processes log the same new artifact at once: W&B finds only a version that is
    there already, and would make two of one."""

    def __init__(self) -> None:
        self._known: set[tuple[str, ...]] = set()
        """Data sets that W&B has."""
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        """Those that somebody holds or waits for."""

    @contextlib.asynccontextmanager
    async def of(self, jobs: Sequence[JobArtifacts]) -> AsyncIterator[None]:
        """Wait until no other process logs to a run of these jobs (two messages can name one job),
        or a data set of theirs for the first time."""
        with contextlib.ExitStack() as held:
            # In one order, so that two of them never wait for each other.
            for name in sorted(_runs(jobs) | (_data_sets(jobs) - self._known)):
                lock = self._locks.setdefault(name, asyncio.Lock())
                await lock.acquire()
                if name in self._known:
                    lock.release()
                else:
                    held.callback(lock.release)
            yield

    def note(self, jobs: Iterable[JobArtifacts]) -> None:
        """Take these jobs' data sets for known: W&B has them."""
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known |= _data_sets(jobs)


def _runs(jobs: Iterable[JobArtifacts]) -> set[tuple[str, ...]]:
    return {("run", job.run.entity, job.run.project, job.run.run_id) for job in jobs}


def _data_sets(jobs: Iterable[JobArtifacts]) -> set[tuple[str, ...]]:
    return {
        ("data set", job.run.entity, job.run.project, file.id)
        for job in jobs
        for file in job.files
        if file.role != "result"
    }


async def _give(process: asyncio.subprocess.Process, task: bytes) -> None:
    assert process.stdin is not None, "it is a pipe"
    # A process that dies before it has read its task is seen by its output's end.
    with contextlib.suppress(ConnectionError):
        process.stdin.write(task)
        await process.stdin.drain()
    process.stdin.close()


async def _take(process: asyncio.subprocess.Process, done: dict[str, ArtifactResult]) -> None:
    assert process.stdout is not None, "it is a pipe"
    while line := await process.stdout.readline():
        try:
            one: dict[str, Any] = orjson.loads(line)
            result = ArtifactResult(one["job"], tuple(one["logged"]), one["error"], one["lost"])
        except (KeyError, TypeError, orjson.JSONDecodeError):
            continue  # half a line of a process that died
        done[result.job] = result


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process with everything that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
