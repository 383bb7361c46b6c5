"""The process that logs artifacts: a task on standard input, one result a line on standard output.

Runs alone with the wandb SDK; see `finetune_wandb/clients/wandb/artifacts.py` for why. Source of the settings:
facts/wandb.md 8.1, checked against wandb 0.31.0.
"""

import json
import os
import re
import sys
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock
from typing import Any

_BAD_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_MAX_NAME = 128
_AT_ONCE = 4
_Place = tuple[str, str, str]
"""Entity, project and file id of a data set: each project has its own versions of it."""
_first: defaultdict[_Place, Lock] = defaultdict(Lock)
"""Held for a data set while it is logged for the first time."""
_logged: set[_Place] = set()
"""Data sets that W&B has."""


def main() -> None:
    task = json.load(sys.stdin)
    folder = task["folder"]
    os.environ.update(
        {
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_DIR": folder,
            "WANDB_CACHE_DIR": folder,
            "WANDB_DATA_DIR": folder,
            "WANDB_CONFIG_DIR": folder,
            "WANDB_ARTIFACT_DIR": folder,
        }
    )
    # The SDK prints to standard output as well; the results must stand there alone.
    results = sys.stdout
    sys.stdout = sys.stderr
    import wandb  # noqa: F401  # once, before the threads need it

    # Nearly all of a job's time is waiting for W&B.
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        # Line by line: what is done stays known when another job brings the process down.
        for done in as_completed([threads.submit(_guarded, job, task) for job in task["jobs"]]):
            print(json.dumps(done.result()), file=results, flush=True)


def _guarded(job: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    logged: list[str] = []
    error, lost = "", False
    try:
        _log(job, task, logged)
    except Exception as caught:  # one job's fault must not cost the others their artifacts
        # The SDK's texts may repeat what it was given; its type is all that leaves.
        error, lost = f"the wandb SDK raised {type(caught).__name__}", _may_pass(caught)
    return {"job": job["job"], "logged": logged, "error": error, "lost": lost}


def _may_pass(error: Exception) -> bool:
    """Say whether another try can help: W&B did not answer, or not in time."""
    import wandb

    known = (TimeoutError, ConnectionError, wandb.errors.CommError)
    return isinstance(error, known) and not isinstance(error, wandb.errors.AuthenticationError)


def _log(job: dict[str, Any], task: dict[str, Any], logged: list[str]) -> None:
    import wandb

    run = wandb.init(
        entity=job["run"]["entity"],
        project=job["run"]["project"],
        id=job["run"]["run_id"],
        resume="must",
        reinit="create_new",
        settings=wandb.Settings(
            base_url=task["base_url"],
            api_key=task["key"],
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_skip_transaction_log=True,
            init_timeout=60,
            finish_timeout=60,
            finish_timeout_raises=True,
            stop_fn=lambda *_: None,
        ),
    )
    # A resumed run forgets its x axis unless it is named again.
    run.define_metric("*", step_metric="step")
    waiting: list[Any] = []
    try:
        results = 0
        for file in job["files"]:
            results += file["role"] == "result"
            artifact = _file_artifact(wandb, file, job, results)
            if file["role"] == "result":
                waiting.append(run.log_artifact(artifact))
            else:
                _use(run, artifact, (job["run"]["entity"], job["run"]["project"], file["id"]))
            logged.append(artifact.name)
        for artifact in _made_artifacts(wandb, job):
            waiting.append(run.log_artifact(artifact))
            logged.append(artifact.name)
        for artifact in waiting:
            artifact.wait()
    finally:
        run.finish(exit_code=job["exit_code"])


def _use(run: Any, artifact: Any, data_set: _Place) -> None:
    """Log a data set as what the run used.

    The first time alone: W&B finds only a version that is there already, and would make two of
    one.
    """
    with _first[data_set]:
        if data_set not in _logged:
            run.use_artifact(artifact)
            _logged.add(data_set)
            return
    run.use_artifact(artifact)


def _file_artifact(wandb: Any, file: dict[str, Any], job: dict[str, Any], results: int) -> Any:
    """Return a file's artifact; `results` counts the job's result files up to this one."""
    is_result = file["role"] == "result"
    # A dot, since a dash and a number name the run that takes the place of a deleted one.
    run_id = job["run"]["run_id"] if results < 2 else f"{job['run']['run_id']}.{results}"
    artifact = wandb.Artifact(
        _name("results", run_id) if is_result else _name("dataset", file["id"]),
        "result" if is_result else "dataset",
        metadata=file["metadata"],
    )
    # Without content the facts alone are the artifact: same facts, same version.
    with artifact.new_file("facts.json") as target:
        json.dump(file["metadata"], target, indent=2, sort_keys=True)
    if file["path"]:
        name = Path(file["metadata"].get("name") or "").name.strip(".") or "data.jsonl"
        artifact.add_file(file["path"], name="results.csv" if is_result else f"content/{name}")
    rows = job["tables"].get(file["id"])
    if rows:
        artifact.add(_table(wandb, job["table_columns"], rows), "rows")
    return artifact


def _made_artifacts(wandb: Any, job: dict[str, Any]) -> list[Any]:
    """Return the artifacts that no file of the job is behind: checkpoints and model."""
    made: list[Any] = []
    run_id = job["run"]["run_id"]
    if job["checkpoint_rows"]:
        artifact = wandb.Artifact(_name("checkpoints", run_id), "checkpoints")
        artifact.add(
            _table(wandb, job["checkpoint_columns"], job["checkpoint_rows"]), "checkpoints"
        )
        made.append(artifact)
    if job["model"]:
        artifact = wandb.Artifact(_name("model", run_id), "model", metadata=job["model"])
        with artifact.new_file("model.json") as target:
            json.dump(job["model"], target, indent=2, sort_keys=True)
        made.append(artifact)
    return made


def _table(wandb: Any, columns: list[str], rows: list[list[Any]]) -> Any:
    return wandb.Table(
        columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True
    )


def _name(kind: str, identifier: str) -> str:
    """Return an artifact's name; ids that W&B takes only in part stay apart from each other."""
    name = f"{kind}-{_BAD_IN_NAME.sub('_', identifier)}"
    if len(name) > _MAX_NAME or not name.endswith(identifier):
        mark = f"-{zlib.crc32(identifier.encode('utf-8', 'replace')):08x}"
        name = name[: _MAX_NAME - len(mark)] + mark
    return name


if __name__ == "__main__":
    main()
