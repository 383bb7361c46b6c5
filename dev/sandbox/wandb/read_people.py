"""Reads about keys, users, teams and the server itself."""

from typing import Any

from dev.sandbox.wandb.errors import Refusal
from dev.sandbox.wandb.keys import Key
from dev.sandbox.wandb.schema import Context, Info, Table, context
from dev.sandbox.wandb.store import Project, node_id

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


TABLE: Table = {
    "Query": {"viewer": _viewer, "entity": _entity, "serverInfo": _server},
    "User": {"apiKeys": _api_keys},
    "Project": {"entity": project_entity},
}
