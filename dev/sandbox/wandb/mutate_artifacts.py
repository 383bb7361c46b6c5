"""Changes to artifacts: draft, manifest, files, commit, use, aliases, deletion."""

import secrets
from typing import Any

from dev.sandbox.wandb.artifacts import COMMITTED, PENDING, Artifact, Collection, Manifest
from dev.sandbox.wandb.keys import Refusal
from dev.sandbox.wandb.read_artifacts import manifest_view, readable_artifact, storage_path
from dev.sandbox.wandb.schema import Info, Table, context, page, writable, writable_run
from dev.sandbox.wandb.store import Project, node_id

Input = dict[str, Any]

_SUCCESS = {"success": True}


def _own(info: Info, artifact_id: str) -> Artifact:
    """Return a version to change. Raises 403 when the key may not."""
    artifact = readable_artifact(info, artifact_id)
    writable(info, artifact.collection.project.entity, artifact.collection.project.name)
    return artifact


def _collection(project: Project, name: str, type_name: str, now: float) -> Collection:
    found = project.collections.get(name)
    if found is None:
        found = Collection(
            node_id("ArtifactSequence", project.id, name), name, type_name, project, now
        )
        project.collections[name] = found
    if found.type_name != type_name:
        raise Refusal(400, f"artifact {name} already exists with type {found.type_name}")
    return found


def _create(_: Any, info: Info, input: Input) -> dict[str, Any]:
    hub = context(info).hub
    entity, project_name = input["entityName"], input["projectName"]
    writable(info, entity, project_name)
    names = input.get("artifactCollectionNames") or [input.get("artifactCollectionName")]
    if not names[0]:
        raise Refusal(400, "an artifact needs a collection name")
    run_name = input.get("runName")
    run = writable_run(info, entity, project_name, run_name) if run_name else None
    project = hub.project_made(entity, project_name)
    collection = _collection(project, names[0], input["artifactTypeName"], hub.clock())
    aliases = [alias["alias"] for alias in input.get("aliases") or []]
    artifact = None
    if input.get("enableDigestDeduplication"):
        artifact = collection.with_digest(input["digest"])
    if artifact is not None:
        collection.point(aliases, artifact)
    else:
        artifact = Artifact(
            id=node_id("Artifact", secrets.token_hex(8)),
            collection=collection,
            digest=input["digest"],
            created_at=hub.clock(),
            digest_algorithm=input.get("digestAlgorithm") or "MANIFEST_MD5",
            description=input.get("description"),
            metadata=input.get("metadata"),
            history_step=input.get("historyStep"),
            tags=[tag["tagName"] for tag in input.get("tags") or []],
            wanted_aliases=aliases,
            creator=run,
        )
        collection.versions.append(artifact)
        hub.artifacts[artifact.id] = artifact
    if input.get("clientID"):
        hub.client_ids[input["clientID"]] = artifact.id
    if run is not None and artifact not in run.logged:
        run.logged.append(artifact)
    return {"artifact": artifact}


def _create_manifest(_: Any, info: Info, input: Input) -> dict[str, Any]:
    artifact = _own(info, input["artifactID"])
    if artifact.state != PENDING:
        raise Refusal(400, "the artifact is committed; its manifest cannot change")
    ctx = context(info)
    known = artifact.manifest
    blob = known.blob if known else ctx.hub.blobs.reserve(input["name"])
    artifact.manifest = Manifest(
        node_id("ArtifactManifest", artifact.id),
        input["digest"],
        blob,
    )
    return {"artifactManifest": manifest_view(artifact.manifest, ctx.base_url)}


def _update_manifest(_: Any, info: Info, input: Input) -> dict[str, Any]:
    ctx = context(info)
    for artifact in ctx.hub.artifacts.values():
        manifest = artifact.manifest
        if manifest is not None and manifest.id == input["artifactManifestID"]:
            _own(info, artifact.id)
            manifest.digest = input.get("digest") or manifest.digest
            return {"artifactManifest": manifest_view(manifest, ctx.base_url)}
    raise Refusal(404, "artifact manifest not found")


def _create_files(_: Any, info: Info, input: Input) -> dict[str, Any]:
    views = [_create_file(info, spec) for spec in input["artifactFiles"]]
    return {"files": page(views, len(views), None)}


def _create_file(info: Info, spec: Input) -> dict[str, Any]:
    """Return where to upload one file; no address when the collection holds its content."""
    ctx = context(info)
    artifact = _own(info, spec["artifactID"])
    digest = spec.get("digest") or spec.get("md5")
    if not digest:
        raise Refusal(400, f"artifact file {spec['name']} has no digest")
    contents = artifact.collection.contents
    owner_id, blob = contents.get(digest, (artifact.id, None))
    if blob is None:
        blob = ctx.hub.blobs.reserve(spec["name"], expected_md5=spec.get("md5"))
        contents[digest] = (artifact.id, blob)
    url = f"{ctx.base_url}{blob.path}"
    return {
        "id": node_id("File", artifact.id, spec["name"]),
        "name": spec["name"],
        "displayName": spec["name"],
        "storagePath": storage_path(artifact, spec["name"]),
        "directUrl": url,
        "uploadUrl": url if blob.data is None else None,
        "uploadHeaders": blob.upload_headers,
        "artifact": ctx.hub.artifacts[owner_id],
    }


def _commit(_: Any, info: Info, input: Input) -> dict[str, Any]:
    artifact = _own(info, input["artifactID"])
    artifact.collection.commit(artifact, context(info).hub.clock())
    return {"artifact": artifact}


def _update(_: Any, info: Info, input: Input) -> dict[str, Any]:
    artifact = _own(info, input["artifactID"])
    if input.get("description") is not None:
        artifact.description = input["description"]
    if input.get("metadata") is not None:
        artifact.metadata = input["metadata"]
    if input.get("aliases") is not None:
        for alias in artifact.aliases:
            del artifact.collection.aliases[alias]
        artifact.collection.point([a["alias"] for a in input["aliases"]], artifact)
    gone = {tag["tagName"] for tag in input.get("tagsToDelete") or []}
    added = [tag["tagName"] for tag in input.get("tagsToAdd") or []]
    artifact.tags = [t for t in dict.fromkeys([*artifact.tags, *added]) if t not in gone]
    artifact.updated_at = context(info).hub.clock()
    return {"artifact": artifact}


def _use(_: Any, info: Info, input: Input) -> dict[str, Any]:
    run = writable_run(info, input["entityName"], input["projectName"], input["runName"])
    artifact = readable_artifact(info, input["artifactID"])
    if artifact.state != COMMITTED:
        raise Refusal(400, "the artifact is not committed")
    if artifact not in run.used:
        run.used.append(artifact)
        artifact.users.append(run)
    return {"artifact": artifact}


def _delete(_: Any, info: Info, input: Input) -> dict[str, Any]:
    artifact = _own(info, input["artifactID"])
    if set(artifact.aliases) - {"latest"} and not input.get("deleteAliases"):
        raise Refusal(400, "the artifact has aliases; delete them too or move them first")
    artifact.collection.delete(artifact)
    return {"artifact": artifact}


def _add_aliases(_: Any, info: Info, input: Input) -> dict[str, bool]:
    artifact = _own(info, input["artifactID"])
    artifact.collection.point([a["alias"] for a in input["aliases"]], artifact)
    return _SUCCESS


def _delete_aliases(_: Any, info: Info, input: Input) -> dict[str, bool]:
    artifact = _own(info, input["artifactID"])
    for alias in {a["alias"] for a in input["aliases"]} & set(artifact.aliases):
        del artifact.collection.aliases[alias]
    return _SUCCESS


TABLE: Table = {
    "Mutation": {
        "createArtifact": _create,
        "createArtifactManifest": _create_manifest,
        "updateArtifactManifest": _update_manifest,
        "createArtifactFiles": _create_files,
        "commitArtifact": _commit,
        "updateArtifact": _update,
        "useArtifact": _use,
        "deleteArtifact": _delete,
        "addAliases": _add_aliases,
        "deleteAliases": _delete_aliases,
    }
}
