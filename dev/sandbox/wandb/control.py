"""Control paths of the W&B stand-in: look at runs, press Stop, delete, set keys and limits.

What they show is meant for tests: rows as objects, holes left out, NaN and infinities as strings.
"""

import re
from dataclasses import asdict
from typing import Any

from aiohttp import web

from dev.sandbox.http import Call, Routes, json_response
from dev.sandbox.store import World
from dev.sandbox.wandb.artifacts import COMMITTED, Artifact
from dev.sandbox.wandb.keys import DEFAULT_ENTITY, DEFAULT_USER, STATES, Key, digest_of
from dev.sandbox.wandb.lines import Row, parse_row
from dev.sandbox.wandb.store import Hub, Run, hub

_RUNS = "/_sandbox/wandb/runs"
_RUN = f"{_RUNS}/<entity>/<project>/<run>"
_STRINGS = ("teams", "write")
_CHOICES = {
    "config": ("merge", "replace"),
    "gaps": ("close", "keep"),
    "entities": ("known", "any"),
}
_FROM_ZERO = ("counter_lag_s", "keys_per_user")


def register(routes: Routes, world: World) -> None:
    """Add the control paths to the control port's routes."""

    async def list_runs(call: Call) -> web.Response:
        projects = hub(world).projects.values()
        return json_response([run.path for project in projects for run in project.runs.values()])

    async def show_run(call: Call) -> web.Response:
        run = _run(world, call, deleted=True)
        return _unknown() if run is None else json_response(shown(hub(world), run))

    async def stop_run(call: Call) -> web.Response:
        run = _run(world, call)
        if run is None:
            return _unknown()
        run.stopped = True
        return json_response({"stopped": True})

    async def delete_run(call: Call) -> web.Response:
        run = _run(world, call)
        if run is None:
            return _unknown()
        hub(world).delete_run(run)
        return web.Response(status=204)

    async def put_key(call: Call) -> web.Response:
        value, key = _key(_object(call))
        hub(world).keys.register(value, key)
        return json_response(_shown_key(key))

    async def list_keys(call: Call) -> web.Response:
        return json_response([_shown_key(key) for key in hub(world).keys.keys.values()])

    async def put_settings(call: Call) -> web.Response:
        _apply_settings(hub(world), _object(call))
        return json_response(_shown_settings(hub(world)))

    async def get_settings(call: Call) -> web.Response:
        return json_response(_shown_settings(hub(world)))

    async def requests_by_key(call: Call) -> web.Response:
        names = ("key_sha256", "method", "path", "operation", "field", "run")
        counted = hub(world).requests.items()
        return json_response(
            [dict(zip(names, request, strict=True), count=count) for request, count in counted]
        )

    async def clear_requests(call: Call) -> web.Response:
        hub(world).requests.clear()
        return web.Response(status=204)

    routes.add("GET", _RUNS, list_runs)
    routes.add("GET", _RUN, show_run)
    routes.add("DELETE", _RUN, delete_run)
    routes.add("POST", f"{_RUN}/stop", stop_run)
    routes.add("PUT", "/_sandbox/wandb/keys", put_key)
    routes.add("GET", "/_sandbox/wandb/keys", list_keys)
    routes.add("PUT", "/_sandbox/wandb/settings", put_settings)
    routes.add("GET", "/_sandbox/wandb/settings", get_settings)
    routes.add("GET", "/_sandbox/wandb/requests-by-key", requests_by_key)
    routes.add("DELETE", "/_sandbox/wandb/requests-by-key", clear_requests)


def _object(call: Call) -> Row:
    """Return the body. Raises ValueError, which the control port answers with 400."""
    try:
        body = call.json()
    except ValueError:
        # The parser's text is left out: the body may hold a key.
        raise ValueError("body: not JSON") from None
    if not isinstance(body, dict):
        raise ValueError("body: must be a JSON object")
    return body


def _unknown() -> web.Response:
    return json_response({"error": "no such run"}, status=404)


def _run(world: World, call: Call, deleted: bool = False) -> Run | None:
    path = call.params["entity"], call.params["project"], call.params["run"]
    service = hub(world)
    return service.run_or_tombstone(*path) if deleted else service.run(*path)


def shown(service: Hub, run: Run) -> Row:
    """Return everything a test may want to compare of a run."""
    return {
        "state": service.state_of(run),
        "exitcode": run.exitcode,
        "config": _plain_config(run),
        "summary": run.summary(),
        "tags": run.tags,
        "group": run.group,
        "job_type": run.job_type,
        "display_name": run.display_name,
        "notes": run.notes,
        "history": [parse_row(line) for line in run.history.present()],
        "output": list(run.output.present()),
        "posts": run.posts,
        "files": sorted(run.uploaded()),
        "alerts": run.alerts,
        "artifacts_logged": [_shown_artifact(a) for a in run.logged if a.state == COMMITTED],
        "artifacts_used": [_shown_artifact(a) for a in run.used if a.state == COMMITTED],
        "stopped": run.stopped,
        "deleted": run.deleted,
    }


def _plain_config(run: Run) -> Row:
    """Unwrap `{"value": …}`, the form in which W&B keeps each value."""
    return {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in run.config_values().items()
    }


def _shown_artifact(artifact: Artifact) -> Row:
    return {
        "name": artifact.name,
        "type": artifact.collection.type_name,
        "digest": artifact.digest,
        "aliases": artifact.aliases,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "files": sorted(artifact.entries()),
    }


def _shown_key(key: Key) -> Row:
    return {
        "key_sha256": key.short,
        "state": key.state,
        "username": key.username,
        "entity": key.entity,
        "teams": key.teams,
        "write": key.write,
        "description": key.description,
    }


def _key(body: Row) -> tuple[str, Key]:
    """Read a key to register. Raises ValueError naming the wrong field, never showing the key."""
    value, state = body.get("key"), body.get("state", "active")
    if not isinstance(value, str) or not value:
        raise ValueError("key: the key's value is missing")
    if state not in STATES:
        raise ValueError(f"state: one of {', '.join(STATES)}")
    for name in _STRINGS:
        if not _strings_or_none(body.get(name)):
            raise ValueError(f"{name}: a list of strings")
    entity = body.get("entity", DEFAULT_ENTITY)
    if not isinstance(entity, str) or not re.fullmatch(r"[^/\s]+", entity):
        raise ValueError("entity: the name of a team")
    teams = body.get("teams")
    return value, Key(
        digest=digest_of(value),
        username=str(body.get("username") or DEFAULT_USER),
        entity=entity,
        teams=[entity] if teams is None else teams,
        write=body.get("write"),
        state=state,
        registered=True,
    )


def _strings_or_none(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def _apply_settings(service: Hub, body: Row) -> None:
    """Set what the body names. Raises ValueError that names the wrong field."""
    default_keys = body.pop("default_keys", None)
    if default_keys not in (None, "accept", "reject"):
        raise ValueError("default_keys: accept or reject")
    known = asdict(service.settings)
    for name, value in body.items():
        if name not in known:
            raise ValueError(f"{name}: unknown; known: default_keys, {', '.join(sorted(known))}")
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                raise ValueError(f"{name}: {' or '.join(_CHOICES[name])}")
            continue
        optional = name == "file_stream_per_run_per_s" and value is None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least = 0 if name in _FROM_ZERO else 1e-9
        if not optional and not (number and value >= least):
            raise ValueError(f"{name}: a number {'from' if least == 0 else 'above'} 0")
    for name, value in body.items():
        setattr(service.settings, name, value)
    if default_keys is not None:
        service.keys.accept_unknown = default_keys == "accept"


def _shown_settings(service: Hub) -> Row:
    default_keys = "accept" if service.keys.accept_unknown else "reject"
    return {"default_keys": default_keys, **asdict(service.settings)}
