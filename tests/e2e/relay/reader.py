"""Reads runs with the official `wandb.Api`, in a process of its own.

`{"base_url", "api_key", "paths"}` on standard input → `{path: run | null}` on standard output.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


async def read(base_url: str, api_key: str, paths: list[str]) -> dict[str, Any]:
    """Return each run as the API shows it, None for one that is not there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.e2e.relay.reader"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    request = {"base_url": base_url, "api_key": api_key, "paths": paths}
    out, err = await asyncio.wait_for(process.communicate(json.dumps(request).encode()), 120)
    assert process.returncode == 0, err.decode()[-3000:]
    answer: dict[str, Any] = json.loads(out)
    return answer


def _shown(run: Any) -> dict[str, Any]:
    return {
        "state": run.state,
        "name": run.name,
        "group": run.group,
        "job_type": run.job_type,
        "tags": list(run.tags),
        "notes": run.notes,
        "config": run.config,
        "summary": {name: value for name, value in run.summary.items() if name != "_wandb"},
        "history": [dict(row) for row in run.scan_history()],
        "logged": _artifacts(run.logged_artifacts()),
        "used": _artifacts(run.used_artifacts()),
    }


_PLACES = (
    "WANDB_DIR",
    "WANDB_CACHE_DIR",
    "WANDB_CONFIG_DIR",
    "WANDB_DATA_DIR",
    "WANDB_ARTIFACT_DIR",  # without it the SDK writes into the working directory
)


def _artifacts(found: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "type": one.type,
            "metadata": dict(one.metadata),
            "files": sorted(one.manifest.entries),
            "tables": {
                name: {"columns": table.columns, "data": table.data}
                for name in ("rows", "checkpoints")
                if (table := one.get(name)) is not None
            },
        }
        for one in found
    ]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the SDK prints belongs elsewhere
    request = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update(WANDB_SILENT="true", WANDB_ERROR_REPORTING="false", HOME=folder)
        for place in _PLACES:
            os.environ[place] = folder
        import wandb
        from wandb.errors import CommError

        api = wandb.Api(
            overrides={"base_url": request["base_url"]}, api_key=request["api_key"], timeout=60
        )
        found: dict[str, Any] = {}
        for path in request["paths"]:
            try:
                found[path] = _shown(api.run(path))
            except CommError:
                found[path] = None
        json.dump(found, answers, default=str)
        answers.flush()


if __name__ == "__main__":
    main()
