"""Reads about artifacts: versions, collections, memberships, manifests and file addresses.

A membership is a version seen through one of its collection's names; the stand-in has no
portfolios, so a version has exactly one.
"""

import base64
from typing import Any
from urllib.parse import quote

from dev.sandbox.wandb.artifacts import COMMITTED, DELETED, Artifact, Blob, Collection, Manifest
from dev.sandbox.wandb.keys import permission_denied
from dev.sandbox.wandb.schema import Info, Table, context, iso, page
from dev.sandbox.wandb.store import Project, Run, node_id


def artifact_with_id(info: Info, artifact_id: str) -> Artifact | None:
    """Return a version by its id, None when there is none that the key may read."""
    ctx = context(info)
    artifact = ctx.hub.artifacts.get(artifact_id)
    if artifact is None or artifact.state == DELETED:
        return None
    return artifact if ctx.key.may_read(artifact.collection.project.entity) else None


def _named(project: Project, name: str) -> Artifact | None:
    """Return the version that `collection`, `collection:vN` or `collection:alias` names."""
    collection_name, _, alias = name.partition(":")
    collection = project.collections.get(collection_name)
    return collection.find(alias or "latest") if collection else None


def _artifact(_: Any, info: Info, id: str) -> Artifact | None:
    return artifact_with_id(info, id)


def _client_id(_: Any, info: Info, clientID: str) -> dict[str, str] | None:
    artifact = artifact_with_id(info, context(info).hub.client_ids.get(clientID, ""))
    return {"serverID": artifact.id} if artifact else None


def _membership(artifact: Artifact | None) -> dict[str, Any] | None:
    if artifact is None:
        return None
    return {
        "id": node_id("ArtifactCollectionMembership", artifact.id),
        "versionIndex": artifact.version_index,
        "createdAt": iso(artifact.created_at),
        "aliases": _aliases(artifact),
        "artifactCollection": artifact.collection,
        "artifact": artifact,
    }


def _aliases(artifact: Artifact) -> list[dict[str, Any]]:
    return [
        {
            "id": node_id("ArtifactAlias", artifact.id, alias),
            "alias": alias,
            "artifactCollection": artifact.collection,
        }
        for alias in artifact.aliases
    ]


def _type(artifact_type: str, project: Project) -> dict[str, Any]:
    return {
        "id": node_id("ArtifactType", project.id, artifact_type),
        "name": artifact_type,
        "createdAt": iso(project.created_at),
        "project": project,
    }


def _types(project: Project) -> list[str]:
    return sorted({c.type_name for c in project.collections.values()})


def _versions(
    source: Collection,
    _: Info,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
    filters: str | None = None,
) -> dict[str, Any]:
    found = page(source.kept()[::-1], first, after)
    for edge in found["edges"]:
        edge["version"] = f"v{edge['node'].version_index}"
    return found


def _of_run(
    artifacts: list[Artifact], first: int | None = None, after: str | None = None
) -> dict[str, Any]:
    return page([a for a in artifacts if a.state == COMMITTED], first, after)


def file_of_entry(artifact: Artifact, path: str, base_url: str) -> dict[str, Any] | None:
    """Return one file of a version as the schema's File, None for content nobody uploaded."""
    entry = artifact.entries()[path]
    if "ref" in entry:
        address, size, kind = entry["ref"], entry.get("size", 0), None
    else:
        blob = artifact.file_blob(path)
        if blob is None or blob.data is None:
            return None
        address, size, kind = f"{base_url}{blob.path}", blob.size, blob.mimetype
    return {
        "id": node_id("File", artifact.id, path),
        "name": path,
        "displayName": path,
        "url": address,
        "directUrl": address,
        "sizeBytes": size,
        "mimetype": kind,
        "updatedAt": iso(artifact.updated_at),
        "md5": entry["digest"],
        "digest": entry["digest"],
        "artifact": artifact,
    }


def _membership_files(
    source: dict[str, Any],
    info: Info,
    names: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
) -> dict[str, Any]:
    artifact: Artifact = source["artifact"]
    base = context(info).base_url
    paths = [p for p in artifact.entries() if not names or p in names]
    views = [file_of_entry(artifact, path, base) for path in paths]
    return page([view for view in views if view is not None], first, after)


def manifest_view(manifest: Manifest, base_url: str) -> dict[str, Any]:
    """Return a manifest with the addresses of its file."""
    blob = manifest.blob
    return {
        "id": manifest.id,
        "digest": manifest.digest,
        "file": {
            "id": node_id("File", manifest.id),
            "name": blob.name,
            "directUrl": f"{base_url}{blob.path}",
            "uploadUrl": f"{base_url}{blob.path}",
            "uploadHeaders": blob.upload_headers,
            "sizeBytes": blob.size,
            "md5": blob.md5,
        },
    }


def _current_manifest(source: Artifact, info: Info) -> dict[str, Any] | None:
    if source.manifest is None or source.manifest.blob.data is None:
        return None
    return manifest_view(source.manifest, context(info).base_url)


def download(artifact_path: list[str], collection: Collection) -> Blob | None:
    """Return the content that `/artifactsV2/…/HEX/NAME` names by its digest."""
    try:
        digest = base64.b64encode(bytes.fromhex(artifact_path[-2])).decode()
    except (ValueError, IndexError):
        return None
    stored = collection.contents.get(digest)
    return stored[1] if stored and stored[1].data is not None else None


def storage_path(artifact: Artifact, name: str) -> str:
    """Return where the bucket keeps one file of a version."""
    return f"wandb_artifacts/{quote(artifact.collection.name)}/{artifact.id}/{quote(name)}"


def readable_artifact(info: Info, artifact_id: str) -> Artifact:
    """Return a version to act on. Raises 403 when there is none that the key may read."""
    artifact = artifact_with_id(info, artifact_id)
    if artifact is None:
        raise permission_denied()
    return artifact


def _creator_type(source: Any, *_: Any) -> str:
    return "Run" if isinstance(source, Run) else "User"


TABLE: Table = {
    "Query": {"artifact": _artifact, "clientIDMapping": _client_id},
    "Project": {
        "artifact": lambda source, _, name: _named(source, name),
        "artifactCollection": lambda source, _, name: source.collections.get(name),
        "artifactCollectionMembership": lambda source, _, name: _membership(_named(source, name)),
        "artifactType": lambda source, _, name: (
            _type(name, source) if name in _types(source) else None
        ),
        "artifactTypes": lambda source, _, first=None, after=None: page(
            [_type(name, source) for name in _types(source)], first, after
        ),
    },
    "Run": {
        "outputArtifacts": lambda source, _, **at: _of_run(source.logged, **at),
        "inputArtifacts": lambda source, _, **at: _of_run(source.used, **at),
    },
    "ArtifactType": {
        "artifactCollection": lambda source, _, name: source["project"].collections.get(name),
        "artifactCollections": lambda source, _, first=None, after=None: page(
            [c for c in source["project"].collections.values() if c.type_name == source["name"]],
            first,
            after,
        ),
    },
    "ArtifactSequence": {
        "createdAt": lambda source, _: iso(source.created_at),
        "artifacts": _versions,
        "artifactMembership": lambda source, _, aliasName: _membership(source.find(aliasName)),
        "digestAlgorithm": lambda source, _: (
            source.latest.digest_algorithm if source.latest else None
        ),
        "latestArtifact": lambda source, _: source.latest,
    },
    "Artifact": {
        "artifactSequence": lambda source, _: source.collection,
        "artifactType": lambda source, _: _type(
            source.collection.type_name, source.collection.project
        ),
        "ttlDurationSeconds": lambda *_: -1,
        "ttlIsInherited": lambda *_: True,
        "tags": lambda source, _: [{"id": node_id("Tag", t), "name": t} for t in source.tags],
        "size": lambda source, _: sum(int(e.get("size", 0)) for e in source.entries().values()),
        "fileCount": lambda source, _: len(source.entries()),
        "createdAt": lambda source, _: iso(source.created_at),
        "updatedAt": lambda source, _: iso(source.updated_at),
        "aliases": lambda source, _: _aliases(source),
        "currentManifest": _current_manifest,
        "createdBy": lambda source, _: source.creator,
        "usedBy": lambda source, _, first=None, after=None: page(source.users, first, after),
        "artifactMemberships": lambda source, _, first=None, after=None: page(
            [_membership(source)], first, after
        ),
    },
    "ArtifactCollectionMembership": {"files": _membership_files},
}

ABSTRACT = {
    "ArtifactCollection": lambda *_: "ArtifactSequence",
    "ArtifactCreator": _creator_type,
}
