"""Reads about people, projects and runs: what the public API and a resuming client ask for."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from dev.sandbox.wandb.artifacts import Blob
from dev.sandbox.wandb.filters import select
from dev.sandbox.wandb.keys import Key, Refusal
from dev.sandbox.wandb.lines import History, Row, loads, parse_row, thinned
from dev.sandbox.wandb.schema import Context, Info, Table, context, iso, page, readable_project
from dev.sandbox.wandb.store import Project, Run, node_id

# The abilities that this stand-in really has. Console lines stay plain text, so
# STRUCTURED_CONSOLE_LOGS is not among them.
_FEATURES = (
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_TAGS",
    "CLIENT_IDS",
    "FILESTREAM_GZIP",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
)

# Only W&B's own clients may list keys; others are told to log in again.
_OWN_CLIENTS = ("W&B Public Client", "wandb-core")


def entity(name: str) -> dict[str, Any]:
    """Return what is known of an entity; every name is a team's."""
    return {
        "id": node_id("Entity", name),
        "name": name,
        "isTeam": True,
        "entityType": "team",
        "readOnly": False,
        "xxhashDigestsEnabled": False,
    }


def user(name: str) -> dict[str, Any]:
    """Return the public part of a user."""
    return {"id": node_id("User", name), "name": name, "username": name}


def _viewer(_: Any, info: Info) -> dict[str, Any]:
    key = context(info).key
    return {
        **user(key.username),
        "email": f"{key.username}@example.com",
        "admin": False,
        "flags": "{}",
        "entity": key.entity,
        "teams": {"edges": [{"node": entity(team)} for team in key.teams]},
    }


def shown_key(key: Key, name: str | None = None) -> dict[str, Any]:
    """Return a key as the API lists it: by a name that is not its value."""
    return {"id": key.id, "name": name or key.short, "description": key.description}


def _api_keys(source: dict[str, Any], info: Info) -> dict[str, Any] | None:
    ctx: Context = context(info)
    if source.get("username") != ctx.key.username:
        return None
    if not ctx.user_agent.startswith(_OWN_CLIENTS):
        raise Refusal(401, "relogin required", "PERMISSION_ERROR")
    keys = ctx.hub.keys.owned_by(ctx.key.username)
    return {"edges": [{"node": shown_key(key)} for key in keys]}


def _entity(_: Any, info: Info, name: str) -> dict[str, Any] | None:
    return entity(name) if context(info).key.may_read(name) else None


def _server(_: Any, info: Info) -> dict[str, Any]:
    return {
        "features": [{"name": name, "isEnabled": True} for name in _FEATURES],
        "cliVersionInfo": {"max_cli_version": "0.31.0"},
    }


def project_entity(source: Project, info: Info) -> dict[str, Any]:
    return entity(source.entity)


_TAIL = 10

# `2026-11-24T03:45:00.123456 text`, with `ERROR ` in front of what went to stderr.
_CONSOLE = re.compile(r"(ERROR )?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?) ?(.*)", re.DOTALL)


def _project(
    _: Any, info: Info, name: str | None = None, entityName: str | None = None
) -> Project | None:
    return readable_project(info, entityName, name)


def _projects(
    _: Any,
    info: Info,
    entityName: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> dict[str, Any]:
    ctx = context(info)
    entity = entityName or ctx.key.entity
    found = [p for p in ctx.hub.projects.values() if p.entity == entity]
    return page(found if ctx.key.may_read(entity) else [], first, after)


def _run(source: Project, info: Info, name: str) -> Run | None:
    run = source.runs.get(name)
    if run is not None:
        context(info).run = run.path
    return run


def _bucket(source: Project, info: Info, name: str, missingOk: bool = False) -> Run | None:
    run = _run(source, info, name)
    if run is None and not missingOk:
        raise Refusal(404, f"could not find run {source.entity}/{source.name}/{name}")
    return run


def _selected(
    source: Project, info: Info, filters: str | None = None, order: str | None = None
) -> list[Run]:
    return select(context(info).hub, list(source.runs.values()), filters, order)


def _runs(
    source: Project,
    info: Info,
    filters: str | None = None,
    order: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> dict[str, Any]:
    return page(_selected(source, info, filters, order), first, after)


def _run_count(source: Project, info: Info, filters: str | None = None) -> int:
    return len(_selected(source, info, filters))


def _state(source: Run, info: Info) -> str:
    return context(info).hub.state_of(source)


def _wandb_config(source: Run, _: Info, keys: list[str] | None = None) -> str:
    internal = source.config_values().get("_wandb") or {}
    value = internal.get("value") if isinstance(internal, dict) else None
    kept = value if isinstance(value, dict) else {}
    return json.dumps({k: v for k, v in kept.items() if keys is None or k in keys})


def _system_metrics(source: Run, _: Info) -> str:
    last = source.events.tail(1, len(source.events))
    return json.dumps(parse_row(last[0]) if last else {})


def _history_keys(source: Run, _: Info) -> dict[str, Any]:
    keys = {
        key: {"typeCounts": [{"type": kind, "count": count} for kind, count in kinds.items()]}
        for key, kinds in source.history.key_kinds().items()
    }
    return {"sets": [], "keys": keys, "lastStep": source.history.last_step()}


def _strict(lines: Iterable[str]) -> list[str]:
    """Return lines as strict JSON: bare NaN and Infinity become strings."""
    return [
        json.dumps(parse_row(line)) if "NaN" in line or "Infinity" in line else line
        for line in lines
    ]


def _history(
    source: Run,
    _: Info,
    minStep: int | None = None,
    maxStep: int | None = None,
    samples: int | None = None,
) -> list[str]:
    if minStep is None and maxStep is None:
        return _strict(thinned(list(source.history.present()), samples or 500))
    # A step range is answered whole, whatever `samples` says: a doubled row must show.
    low = -math.inf if minStep is None else minStep
    high = math.inf if maxStep is None else maxStep
    return _strict(source.history.between(low, high))


def _events(source: Run, _: Info, samples: int | None = None) -> list[str]:
    return _strict(thinned(list(source.events.present()), samples or 500))


def _picked(row: Row, keys: list[str]) -> Row | None:
    """Return the wanted keys of a row that has them all; `a.b` reaches into `{"a": {"b": …}}`."""
    picked: Row = {}
    for key in keys:
        value: Any = row
        for part in [key] if key in row else key.split("."):
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        picked[key] = value
    return picked


def _sampled(history: History, spec: dict[str, Any]) -> list[Row]:
    keys = list(dict.fromkeys(spec.get("keys") or ["_step"]))
    low, high = spec.get("minStep"), spec.get("maxStep")
    ranged = low is not None or high is not None
    lines = history.between(
        -math.inf if low is None else low, math.inf if high is None else high + 1
    )
    rows = [row for row in (_picked(parse_row(line), keys) for line in lines) if row is not None]
    return rows if ranged else thinned(rows, int(spec.get("samples") or 500))


def _sampled_history(source: Run, _: Info, specs: list[str]) -> list[list[Row]]:
    return [_sampled(source.history, loads(spec)) for spec in specs]


def _parquet_history(source: Run, _: Info, liveKeys: list[str]) -> dict[str, Any]:
    """Answer that nothing was exported yet and that rows are live from the first step on."""
    first = source.history.first_step()
    return {"parquetUrls": [], "liveData": [] if first is None else [{"_step": first}]}


def _log_line(number: int, line: str) -> dict[str, Any]:
    match = _CONSOLE.fullmatch(line)
    if match is None:
        return {"number": number, "level": "", "label": "", "line": line}
    level = "error" if match[1] else ""
    return {
        "number": number,
        "timestamp": match[2],
        "level": level,
        "label": "",
        "line": match[3],
    }


def _log_lines(
    source: Run,
    _: Info,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    useImprovedPagination: bool = True,
) -> dict[str, Any]:
    slots = enumerate(source.output.slots)
    lines = [_log_line(number, line) for number, line in slots if line is not None]
    if last is not None:
        lines = lines[max(len(lines) - last, 0) :]
        return page(lines, len(lines), None)
    return page(lines, 1000 if first is None else first, after)


def file_view(run: Run, blob: Blob, base_url: str) -> dict[str, Any]:
    """Return one uploaded run file as the schema's File."""
    return {
        "id": node_id("File", run.id, blob.name),
        "name": blob.name,
        "displayName": blob.name,
        "url": f"{base_url}{blob.path}",
        "directUrl": f"{base_url}{blob.path}",
        "sizeBytes": blob.size,
        "mimetype": blob.mimetype,
        "updatedAt": iso(blob.updated_at),
        "md5": blob.md5,
        "digest": blob.md5,
    }


def _files(
    source: Run,
    info: Info,
    names: list[str] | None = None,
    pattern: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> dict[str, Any]:
    kept = sorted(source.uploaded().values(), key=lambda blob: blob.name)
    if names:
        kept = [blob for blob in kept if blob.name in names]
    if pattern:
        # SQL's LIKE: % is any text, _ any character.
        like = re.escape(pattern).replace("%", ".*").replace("_", ".")
        kept = [blob for blob in kept if re.fullmatch(like, blob.name)]
    base = context(info).base_url
    return page([file_view(source, blob, base) for blob in kept], first, after)


def _history_tail(run: Run, info: Info) -> str:
    return json.dumps(_strict(run.history.tail(_TAIL, context(info).hub.sizes_of(run).history)))


def _events_tail(run: Run, info: Info) -> str:
    return json.dumps(_strict(run.events.tail(_TAIL, context(info).hub.sizes_of(run).events)))


TABLE: Table = {
    "User": {"apiKeys": _api_keys},
    "Query": {
        "viewer": _viewer,
        "entity": _entity,
        "serverInfo": _server,
        "model": _project,
        "project": _project,
        "models": _projects,
        "projects": _projects,
    },
    "Project": {
        "entity": project_entity,
        "internalId": lambda source, _: node_id("ProjectInternalId", str(source.number)),
        "entityName": lambda source, _: source.entity,
        "access": lambda *_: "PRIVATE",
        "isBenchmark": lambda *_: False,
        "readOnly": lambda source, info: (
            not context(info).key.may_write(source.entity, source.name)
        ),
        "createdAt": lambda source, _: iso(source.created_at),
        "runCount": _run_count,
        "runs": _runs,
        "run": _run,
        "bucket": _bucket,
    },
    "Run": {
        "projectId": lambda source, _: source.project.number,
        "state": _state,
        "groupName": lambda source, _: source.group,
        "jobProgram": lambda source, _: source.program,
        "jobRepo": lambda source, _: source.repo,
        "wandbConfig": _wandb_config,
        "summaryMetrics": lambda source, _: json.dumps(source.summary()),
        "systemMetrics": _system_metrics,
        "readOnly": lambda source, info: (
            not context(info).key.may_write(source.project.entity, source.project.name)
        ),
        "createdAt": lambda source, _: iso(source.created_at),
        "heartbeatAt": lambda source, _: iso(source.heartbeat_at),
        "user": lambda source, _: user(source.username),
        "historyKeys": _history_keys,
        "historyLineCount": lambda source, info: context(info).hub.sizes_of(source).history,
        "eventsLineCount": lambda source, info: context(info).hub.sizes_of(source).events,
        "logLineCount": lambda source, info: context(info).hub.sizes_of(source).output,
        "historyTail": _history_tail,
        "eventsTail": _events_tail,
        "history": _history,
        "events": _events,
        "sampledHistory": _sampled_history,
        "parquetHistory": _parquet_history,
        "logLines": _log_lines,
        "fileCount": lambda source, _: len(source.uploaded()),
        "files": _files,
    },
}
