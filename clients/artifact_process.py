"""The process that logs artifacts: a task on standard input, results on standard output.

Runs alone with the wandb SDK; see `clients/artifacts.py` for why. Source of the settings:
facts/wandb.md 8.1, checked against wandb 0.31.0.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


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
    found = [_guarded(job, task) for job in task["jobs"]]
    print(json.dumps(found), file=results, flush=True)


def _guarded(job: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    logged: list[str] = []
    run_id = job["run"]["run_id"]
    try:
        _log(job, task, logged)
    except Exception as error:  # one job's fault must not cost the others their artifacts
        # The SDK's texts may repeat what it was given; its type is all that leaves.
        return {"run_id": run_id, "logged": logged, "error": type(error).__name__}
    return {"run_id": run_id, "logged": logged, "error": ""}


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
        for file in job["files"]:
            artifact = _file_artifact(wandb, file, job)
            if file["role"] == "result":
                waiting.append(run.log_artifact(artifact))
            else:
                run.use_artifact(artifact)
            logged.append(artifact.name)
        if job["checkpoint_rows"]:
            artifact = wandb.Artifact(f"checkpoints-{job['run']['run_id']}", "checkpoints")
            artifact.add(
                wandb.Table(
                    columns=list(job["checkpoint_columns"]),
                    data=[list(row) for row in job["checkpoint_rows"]],
                    allow_mixed_types=True,
                ),
                "checkpoints",
            )
            waiting.append(run.log_artifact(artifact))
            logged.append(artifact.name)
        if job["model"]:
            artifact = wandb.Artifact(
                f"model-{job['run']['run_id']}", "model", metadata=job["model"]
            )
            with artifact.new_file("model.json") as target:
                json.dump(job["model"], target, indent=2, sort_keys=True)
            waiting.append(run.log_artifact(artifact))
            logged.append(artifact.name)
        for artifact in waiting:
            artifact.wait()
    finally:
        run.finish(exit_code=job["exit_code"])


def _file_artifact(wandb: Any, file: dict[str, Any], job: dict[str, Any]) -> Any:
    if file["role"] == "result":
        artifact = wandb.Artifact(
            f"results-{job['run']['run_id']}", "result", metadata=file["metadata"]
        )
        artifact.add_file(file["path"], name="results.csv")
        return artifact
    artifact = wandb.Artifact(f"dataset-{file['id']}", "dataset", metadata=file["metadata"])
    # Without content the facts alone are the artifact: same facts, same version.
    with artifact.new_file("facts.json") as target:
        json.dump(file["metadata"], target, indent=2, sort_keys=True)
    if file["path"]:
        artifact.add_file(
            file["path"], name=Path(file["metadata"].get("name") or "data.jsonl").name
        )
    rows = job["tables"].get(file["id"])
    if rows:
        artifact.add(
            wandb.Table(columns=list(job["table_columns"]), data=rows, allow_mixed_types=True),
            "rows",
        )
    return artifact


if __name__ == "__main__":
    main()
