"""How resolvers plug into the W&B schema, and what they share.

A resolver module exports a table {type: {field: resolver}}. Fields without a resolver are read
from the object: `displayName` from `display_name`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from re import sub
from typing import Any

from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
)

from dev.sandbox.wandb.keys import Key, Refusal, permission_denied
from dev.sandbox.wandb.store import Hub, Project, Run

Info = GraphQLResolveInfo
Resolver = Callable[..., Any]
Table = dict[str, dict[str, Resolver]]

_SDL = Path(__file__).with_name("wandb.graphql")
_PAGE = 50


@dataclass
class Context:
    """One GraphQL request: whose key, at which address, and the run it turned out to be about."""

    hub: Hub
    key: Key
    base_url: str
    user_agent: str
    run: str | None = None


def context(info: Info) -> Context:
    found: Context = info.context
    return found


def schema_with(*tables: Table, abstract: dict[str, Resolver]) -> GraphQLSchema:
    """Return the schema with the resolvers in place. Raises KeyError for a field it lacks.

    `abstract` says for each interface and union which type an object is of.
    """
    schema = build_schema(_SDL.read_text("utf-8"))
    for type_name, type_of in abstract.items():
        vague = schema.type_map[type_name]
        if not isinstance(vague, (GraphQLInterfaceType, GraphQLUnionType)):
            raise KeyError(type_name)
        vague.resolve_type = type_of
    for table in tables:
        for type_name, fields in table.items():
            kind = schema.type_map[type_name]
            if not isinstance(kind, GraphQLObjectType):
                raise KeyError(type_name)
            for name, resolver in fields.items():
                kind.fields[name].resolve = resolver
    return schema


@lru_cache(maxsize=512)
def _attribute(field: str) -> str:
    return sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", field).lower()


def read_field(source: Any, info: Info, **_: Any) -> Any:
    """Resolve a field that has no resolver: a dict's key, or an attribute."""
    if isinstance(source, dict):
        return source.get(info.field_name)
    return getattr(source, _attribute(info.field_name), None)


def iso(at: float | None) -> str | None:
    """Return seconds since the epoch as an ISO 8601 date in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def page(items: Sequence[Any], first: int | None, after: str | None) -> dict[str, Any]:
    """Return a connection: the items after a cursor. Cursors are positions."""
    start = int(after) + 1 if after else 0
    end = start + (_PAGE if first is None else first)
    edges = [{"node": n, "cursor": str(i)} for i, n in enumerate(items[start:end], start)]
    return {
        "edges": edges,
        "pageInfo": {
            "endCursor": edges[-1]["cursor"] if edges else None,
            "hasNextPage": end < len(items),
        },
        "totalCount": len(items),
    }


def readable_project(info: Info, entity: str | None, name: str | None) -> Project | None:
    """Return a project that the key may read, None otherwise; no entity means the key's own."""
    ctx = context(info)
    entity = entity or ctx.key.entity
    if not ctx.key.may_read(entity):
        return None
    return ctx.hub.project(entity, name or "uncategorized")


def writable(info: Info, entity: str, project: str) -> None:
    """Refuse with 403 a write that the key has no right to."""
    if not context(info).key.may_write(entity, project):
        raise permission_denied()


def writable_run(info: Info, entity: str | None, project: str | None, name: str) -> Run:
    """Return a run to write to. Raises 403 or 404."""
    ctx = context(info)
    entity, project = entity or ctx.key.entity, project or "uncategorized"
    ctx.run = f"{entity}/{project}/{name}"
    writable(info, entity, project)
    run = ctx.hub.run(entity, project, name)
    if run is None:
        raise Refusal(404, f"run {ctx.run} not found")
    return run


def writable_run_with_id(info: Info, run_id: str) -> Run:
    """Return a run to write to by its storage id. Raises 403 or 404."""
    ctx = context(info)
    run = ctx.hub.run_with_id(run_id)
    ctx.run = run.path
    writable(info, run.project.entity, run.project.name)
    return run
