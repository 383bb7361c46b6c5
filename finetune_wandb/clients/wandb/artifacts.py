"""Artifacts over W&B's GraphQL API and its storage addresses.

The `wandb` SDK logs an artifact only through a run that it resumed: that reopens a finished run,
rewrites its config and summary, and sends a second "run finished" alert. The requests below name
the run and change nothing else of it. tests/parity compares them with the SDK's own.

Source: wandb's core/pkg/artifacts/saver.go and core/api/graphql, checked 2026-11-24.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin
from weakref import WeakValueDictionary

import orjson

from finetune_wandb.clients.http import Http
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.api import WandbApi
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay.artifact import Artifact, ArtifactFile, encoded
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunKey

_UPLOAD_S: Final = 240.0
"""One try of one file; W&B's addresses are valid for longer."""
_CREATE: Final = (
    "mutation CreateArtifact($input: CreateArtifactInput!) { createArtifact(input: $input) { "
    "artifact { id state artifactSequence { latestArtifact { id } } } } }"
)
_CREATE_MANIFEST: Final = (
    "mutation CreateArtifactManifest($input: CreateArtifactManifestInput!) { "
    "createArtifactManifest(input: $input) { "
    "artifactManifest { id file { id uploadUrl uploadHeaders } } } }"
)
_CREATE_FILES: Final = (
    "mutation CreateArtifactFiles($artifactFiles: [CreateArtifactFileSpecInput!]!) { "
    "createArtifactFiles(input: {artifactFiles: $artifactFiles, storageLayout: V2}) { "
    "files { edges { node { uploadUrl uploadHeaders artifact { id } } } } } }"
)
_COMMIT: Final = (
    "mutation CommitArtifact($artifactID: ID!) { "
    "commitArtifact(input: {artifactID: $artifactID}) { artifact { id } } }"
)
_USE: Final = (
    "mutation UseArtifact($input: UseArtifactInput!) { "
    "useArtifact(input: $input) { artifact { id } } }"
)


class Artifacts:
    """ArtifactPort."""

    def __init__(self, transport: Transport, base_url: str) -> None:
        self._api = WandbApi(transport, base_url)
        self._storage = Http(transport, "W&B's storage", timeout_s=_UPLOAD_S)
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        """By entity, project and artifact name. W&B finds an equal version only after its commit;
        two equal drafts would become two versions."""

    async def log(self, run: RunPath, artifact: Artifact, *, key: RunKey) -> None:
        place = (run.entity, run.project, artifact.name)
        lock = self._locks.setdefault(place, asyncio.Lock())
        version = _Version(self._api, self._storage, run, artifact, key)
        try:
            async with lock:
                await version.write()
            if artifact.used:
                await version.use()
        except (KeyError, TypeError, ValueError):
            raise UnavailableError(
                "W&B's answer names no artifact", subject=str(run), code="NotJson"
            ) from None


@dataclass(slots=True)
class _Version:
    """One version of an artifact on its way to W&B."""

    api: WandbApi
    storage: Http
    run: RunPath
    artifact: Artifact
    key: RunKey
    id: str = ""

    async def write(self) -> None:
        """Create this version in W&B; a version with the same digest is reused."""
        created = (await self._ask(_CREATE, input=self._draft()))["createArtifact"]["artifact"]
        self.id = str(created["id"])
        if created["state"] == "COMMITTED":
            return
        if self.artifact.fetch:
            await self.artifact.fetch()
        latest = (created.get("artifactSequence") or {}).get("latestArtifact") or {}
        draft = await self._manifest(latest.get("id"), "")
        manifest = await self._upload_files(draft["id"])
        sealed = await self._manifest(latest.get("id"), encoded(md5(manifest)))
        await self._put(sealed["file"], manifest)
        await self._ask(_COMMIT, artifactID=self.id)

    async def use(self) -> None:
        """Record that the run used this version."""
        await self._ask(_USE, input={**self._place(), "artifactID": self.id})

    def _draft(self) -> dict[str, Any]:
        artifact, place = self.artifact, self._place()
        if artifact.used:
            del place["runName"]  # the run did not create it
        return {
            **place,
            "artifactTypeName": artifact.type,
            "artifactCollectionName": artifact.name,
            "digest": _digest(artifact.files),
            "digestAlgorithm": "MANIFEST_MD5",
            "aliases": [{"artifactCollectionName": artifact.name, "alias": "latest"}],
            "metadata": orjson.dumps(artifact.metadata).decode(),
            "enableDigestDeduplication": True,
            "clientID": secrets.token_hex(64),
            "sequenceClientID": secrets.token_hex(64),
        }

    async def _manifest(self, base_id: str | None, digest: str) -> dict[str, Any]:
        named = {
            **self._place(),
            "artifactID": self.id,
            "baseArtifactID": base_id,
            "name": "wandb_manifest.json",
            "digest": digest,
            "type": "FULL",
        }
        answer = await self._ask(_CREATE_MANIFEST, input=named)
        manifest: dict[str, Any] = answer["createArtifactManifest"]["artifactManifest"]
        return manifest

    async def _upload_files(self, manifest_id: str) -> bytes:
        """Upload what W&B does not have; return the manifest."""
        files = self.artifact.files
        of = {"artifactID": self.id, "artifactManifestID": manifest_id}
        wanted = [{**of, "name": file.name, "md5": file.md5} for file in files]
        answer = await self._ask(_CREATE_FILES, artifactFiles=wanted)
        nodes = [edge["node"] for edge in answer["createArtifactFiles"]["files"]["edges"]]
        contents: dict[str, Any] = {}
        for file, node in zip(files, nodes, strict=True):
            if node["uploadUrl"]:
                await self._put(node, file.content)
            born = node["artifact"]["id"]
            contents[file.name] = {"digest": file.md5, "size": file.size, "birthArtifactID": born}
        return orjson.dumps(
            {
                "version": 1,
                "storagePolicy": "wandb-storage-policy-v1",
                "storagePolicyConfig": {"storageLayout": "V2"},
                "contents": contents,
            }
        )

    async def _put(self, target: Mapping[str, Any], content: bytes | Path) -> None:
        """Upload to the presigned address that W&B returned."""
        given = (header.partition(":") for header in target["uploadHeaders"] or ())
        await self.storage.request(
            "PUT",
            urljoin(f"{self.api.base_url}/", target["uploadUrl"]),
            lambda answer: None,
            headers={name: value.strip() for name, _, value in given},
            body=content,
            subject=str(self.run),
        )

    def _place(self) -> dict[str, Any]:
        run = self.run
        return {"entityName": run.entity, "projectName": run.project, "runName": run.run_id}

    async def _ask(self, document: str, **variables: Any) -> dict[str, Any]:
        return await self.api.ask(document, variables, key=self.key.current, subject=str(self.run))


def _digest(files: tuple[ArtifactFile, ...]) -> str:
    """Return the digest by which W&B recognizes equal versions."""
    lines = "".join(f"{file.name}:{file.md5}\n" for file in sorted(files, key=lambda f: f.name))
    return md5(f"wandb-artifact-manifest-v1\n{lines}".encode()).hexdigest()
