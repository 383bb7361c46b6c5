"""Changes to runs, their files and alerts, and to keys: everything GraphQL writes but artifacts."""

from typing import Any

from dev.sandbox.wandb.keys import Refusal, no_entity, permission_denied
from dev.sandbox.wandb.lines import json_or_refuse, merged
from dev.sandbox.wandb.read_runs import shown_key
from dev.sandbox.wandb.schema import (
    Info,
    Table,
    context,
    writable,
    writable_run,
    writable_run_with_id,
)
from dev.sandbox.wandb.store import Run, node_id

Input = dict[str, Any]

_SUCCESS = {"success": True}

# From which state `updateRunState` may lead where.
_TRANSITIONS = {
    "pending": ("running", "failed", "crashed", "preempted"),
    "failed": ("pending", "running"),
}

# Bytes that a field may have.
# Source: docs.wandb.ai, limits of runs (read 24 Nov 2026).
_LONGEST = {
    "name": 64,
    "modelName": 128,
    "groupName": 128,
    "jobType": 64,
    "displayName": 128,
    "config": 15_000_000,
}
_LONGEST_TAG = 64

# Input field to attribute, for what an upsert simply sets. Null leaves a field as it was.
_PLAIN = {
    "groupName": "group",
    "description": "description",
    "displayName": "display_name",
    "notes": "notes",
    "commit": "commit",
    "host": "host",
    "jobProgram": "program",
    "jobRepo": "repo",
    "jobType": "job_type",
    "sweep": "sweep_name",
    "tags": "tags",
}


def _target(info: Info, wanted: Input) -> tuple[Run, bool]:
    """Return the run that an upsert means, and whether it is new."""
    if wanted.get("id"):
        return writable_run_with_id(info, wanted["id"]), False
    ctx = context(info)
    entity = wanted.get("entityName") or ctx.key.entity
    if not ctx.hub.has_entity(entity):
        raise no_entity(entity)
    project, name = wanted.get("modelName") or "uncategorized", wanted.get("name")
    ctx.run = f"{entity}/{project}/{name}" if name else None
    writable(info, entity, project)
    found = ctx.hub.run(entity, project, name) if name else None
    if found is not None:
        return found, False
    run = ctx.hub.create_run(ctx.hub.project_made(entity, project), name, ctx.key.username)
    ctx.run = run.path
    return run, True


def _check_limits(wanted: Input) -> None:
    """Raise 400 for a field that is longer than W&B takes."""
    for name, longest in _LONGEST.items():
        if len((wanted.get(name) or "").encode()) > longest:
            raise Refusal(400, f"{name} must be at most {longest} bytes long")
    if any(not 1 <= len(tag) <= _LONGEST_TAG for tag in wanted.get("tags") or ()):
        raise Refusal(400, f"a tag must have 1 to {_LONGEST_TAG} characters")


def _upsert_bucket(_: Any, info: Info, input: Input) -> dict[str, Any]:
    hub = context(info).hub
    state = input.get("state")
    if state not in (None, "running", "pending"):
        raise Refusal(400, f"a run cannot be put into the state {state}")
    for name in ("config", "summaryMetrics"):
        if input.get(name) is not None:
            json_or_refuse(input[name], name)
    _check_limits(input)
    run, inserted = _target(info, input)
    for name, attribute in _PLAIN.items():
        if input.get(name) is not None:
            setattr(run, attribute, input[name])
    if input.get("config") is not None:
        merges = hub.settings.config == "merge"
        run.config = merged(run.config, input["config"]) if merges else input["config"]
    if input.get("summaryMetrics") is not None:
        run.summary_line = input["summaryMetrics"]
    if state is not None:
        run.state, run.exitcode, run.heartbeat_at = state, None, hub.clock()
    return {"bucket": run, "inserted": inserted}


def _upsert_model(_: Any, info: Info, input: Input) -> dict[str, Any]:
    ctx = context(info)
    entity, name = input.get("entityName") or ctx.key.entity, input.get("name") or "uncategorized"
    writable(info, entity, name)
    inserted = ctx.hub.project(entity, name) is None
    project = ctx.hub.project_made(entity, name)
    if input.get("description") is not None:
        project.description = input["description"]
    return {"model": project, "project": project, "inserted": inserted}


def _update_run_state(_: Any, info: Info, input: Input) -> dict[str, bool]:
    run = writable_run_with_id(info, input["id"])
    hub = context(info).hub
    now, wanted = hub.state_of(run), input["state"]
    if now not in _TRANSITIONS.get(wanted, ()):
        raise Refusal(400, f"invalid run state transition from {now} to {wanted}")
    run.state, run.exitcode = wanted, None
    return _SUCCESS


def _stop_run(_: Any, info: Info, input: Input) -> dict[str, bool]:
    run = writable_run_with_id(info, input["id"])
    # Stopping a run that has ended has no effect.
    run.stopped = context(info).hub.state_of(run) in ("running", "preempting", "pending")
    return _SUCCESS


def _delete_run(_: Any, info: Info, input: Input) -> dict[str, Any]:
    run = writable_run_with_id(info, input["id"])
    context(info).hub.delete_run(run)
    return {"clientMutationId": input.get("clientMutationId")}


def _create_run_files(_: Any, info: Info, input: Input) -> dict[str, Any]:
    ctx = context(info)
    run = writable_run(info, input.get("entityName"), input.get("projectName"), input["runName"])
    files = []
    for name in input["files"]:
        blob = run.files.get(name)
        if blob is None:
            blob = run.files[name] = ctx.hub.blobs.reserve(name)
        url = f"{ctx.base_url}{blob.path}"
        files.append({"name": name, "uploadUrl": url, "directUrl": url})
    return {"runID": run.id, "uploadHeaders": [], "files": files}


def _mark_run_files(_: Any, info: Info, input: Input) -> dict[str, bool]:
    """Take note of uploads. The stand-in saw them itself, as the hosted service does."""
    writable_run(info, input.get("entityName"), input.get("projectName"), input["runName"])
    return _SUCCESS


def _delete_files(_: Any, info: Info, input: Input) -> dict[str, bool]:
    gone = set(input["files"])
    for run in list(context(info).hub.runs_by_id.values()):
        for name in [n for n in run.files if node_id("File", run.id, n) in gone]:
            writable(info, run.project.entity, run.project.name)
            del run.files[name]
    return _SUCCESS


def _alert(_: Any, info: Info, input: Input) -> dict[str, bool]:
    """Record an alert; one with the same title within `waitDuration` (ms) reaches nobody."""
    run = writable_run(info, input.get("entityName"), input.get("projectName"), input["runName"])
    now, wait_ms = context(info).hub.clock(), float(input.get("waitDuration") or 0)
    sent = [a["at"] for a in run.alerts if a["title"] == input["title"] and a["sent"]]
    run.alerts.append(
        {
            "title": input["title"],
            "text": input["text"],
            "severity": input.get("severity") or "INFO",
            "wait_ms": wait_ms,
            "at": now,
            "sent": not sent or (now - sent[-1]) * 1000 >= wait_ms,
        }
    )
    return _SUCCESS


def _generate_key(_: Any, info: Info, input: Input) -> dict[str, Any]:
    ctx = context(info)
    if len(ctx.hub.keys.owned_by(ctx.key.username)) >= ctx.hub.settings.keys_per_user:
        raise permission_denied()
    value, key = ctx.hub.keys.generate(ctx.key, input.get("description"))
    # The one time that the value is shown; clients read it from `name`.
    return {"apiKey": shown_key(key, name=value)}


def _delete_key(_: Any, info: Info, input: Input) -> dict[str, bool]:
    ctx = context(info)
    ctx.hub.keys.revoke(input["id"], ctx.key)
    return _SUCCESS


TABLE: Table = {
    "Mutation": {
        "upsertBucket": _upsert_bucket,
        "upsertModel": _upsert_model,
        "updateRunState": _update_run_state,
        "stopRun": _stop_run,
        "deleteRun": _delete_run,
        "createRunFiles": _create_run_files,
        "markRunFilesUploaded": _mark_run_files,
        "deleteFiles": _delete_files,
        "notifyScriptableRunAlert": _alert,
        "generateApiKey": _generate_key,
        "deleteApiKey": _delete_key,
    }
}
