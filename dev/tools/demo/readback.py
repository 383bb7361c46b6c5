"""Reads runs back with the official `wandb.Api`, in a process of its own.

There its import neither slows the story nor writes into it. One request and one answer a line,
as JSON: `{"base_url", "api_key", "paths"}` → `{path: {"state", "history", "summary"} | null}`.
The key comes over standard input, where no other process can read it.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dev.tools.demo.cloud import StoryError

_LONGEST_LINE = 256 * 1024 * 1024


class Readback:
    """The reading process; entering it starts it, so that its import is over when it is needed."""

    def __init__(self, log: Path, root: Path) -> None:
        self._log = log
        self._root = root
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "dev.tools.demo.readback"),
                cwd=self._root,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LONGEST_LINE,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def read(self, base_url: str, key: str, paths: list[str]) -> dict[str, Any]:
        """Return each run as the API shows it, None for one that is not there yet.

        Raises StoryError when the API cannot be used.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"base_url": base_url, "api_key": key, "paths": paths}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        try:
            await process.stdin.drain()
            line = await asyncio.wait_for(process.stdout.readline(), 120)
        except (ConnectionError, TimeoutError):
            line = b""
        if not line:
            raise StoryError(f"wandb.Api could not read the runs; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _read(api: Any, path: str, missing: type[Exception]) -> dict[str, Any] | None:
    try:
        run = api.run(path)
    except missing:
        return None
    return {
        "state": run.state,
        "history": [dict(row) for row in run.scan_history()],
        "summary": {name: value for name, value in run.summary.items() if name != "_wandb"},
    }


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the SDK prints belongs in the log
    with tempfile.TemporaryDirectory() as folder:
        # Before the import: the SDK reads its surroundings once. A key or a host of the person
        # who runs the demo must not take the place of those that are asked for.
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update(WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
        for place in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            os.environ[place] = folder
        import wandb
        from wandb.errors import CommError

        for line in sys.stdin:
            request = json.loads(line)
            api = wandb.Api(
                overrides={"base_url": request["base_url"]}, api_key=request["api_key"], timeout=30
            )
            found = {path: _read(api, path, CommError) for path in request["paths"]}
            answers.write(json.dumps(found, default=str) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
