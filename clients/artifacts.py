"""Artifacts through the wandb SDK, in a short-lived process of its own.

The SDK keeps threads, a helper process, signal handlers and global credentials; none of that
may come near the relay. The key goes to the process through its standard input, so that it is
neither in arguments nor in the environment.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from model.artifact import ArtifactResult, JobArtifacts
from model.errors import UnavailableError
from model.relay_ports import RunKey

_ROOT: Final = Path(__file__).resolve().parent.parent
_TIMEOUT_S: Final = 120.0
_PER_JOB_S: Final = 30.0
_AT_ONCE: Final = 1
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
    """ArtifactPort. A few processes at a time, each for some jobs of one account."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def log(self, jobs: Sequence[JobArtifacts], *, key: RunKey) -> list[ArtifactResult]:
        """Log the artifacts of these runs; one result each. Raises UnavailableError when the
        process came to nothing."""
        async with self._limit:
            with tempfile.TemporaryDirectory(prefix="wandb-") as folder:
                return await self._run(jobs, key, folder)

    async def _run(
        self, jobs: Sequence[JobArtifacts], key: RunKey, folder: str
    ) -> list[ArtifactResult]:
        task = orjson.dumps(
            {
                "base_url": self._base_url,
                "key": key.value.reveal(),
                "folder": folder,
                "jobs": [asdict(job) for job in jobs],
            }
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clients.artifact_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # What the SDK prints may hold anything; only the result is read.
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            | {"HOME": folder, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            cwd=_ROOT,
            start_new_session=True,
        )
        try:
            out, _ = await asyncio.wait_for(
                process.communicate(task), _TIMEOUT_S + _PER_JOB_S * len(jobs)
            )
        except TimeoutError:
            raise UnavailableError(
                "logging artifacts took too long", code="ArtifactTimeout"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _results(out)


def _results(out: bytes) -> list[ArtifactResult]:
    lines = out.strip().splitlines()
    try:
        found: list[dict[str, Any]] = orjson.loads(lines[-1])
        return [ArtifactResult(one["run_id"], tuple(one["logged"]), one["error"]) for one in found]
    except (IndexError, KeyError, TypeError, orjson.JSONDecodeError):
        raise UnavailableError(
            "the process that logs artifacts ended without a result", code="ArtifactProcess"
        ) from None
