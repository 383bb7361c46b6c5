"""Artifacts and uploaded bytes: versions of a collection, their manifest, files and aliases.

A version is a draft until it is committed; committing numbers it, moves its aliases, and makes it
the latest. Content that a collection already holds is neither asked for again nor a new version.
Bytes lie at presigned addresses, which carry their own permission, as a cloud bucket's do.
"""

import base64
import secrets
from dataclasses import dataclass, field
from hashlib import md5
from mimetypes import guess_type
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from dev.sandbox.http import Call
from dev.sandbox.wandb.keys import Refusal

STORAGE = "/storage/"


@dataclass
class Blob:
    """One stored object. `data` is None until it has been uploaded."""

    token: str
    name: str
    expected_md5: str | None = None
    data: bytes | None = None
    updated_at: float = 0.0

    @property
    def path(self) -> str:
        """The presigned address, relative to the service's base URL."""
        return f"{STORAGE}{self.token}"

    @property
    def md5(self) -> str:
        """The MD5 of the content in base64, as the API gives it."""
        return base64.b64encode(md5(self.data or b"").digest()).decode()

    @property
    def size(self) -> int:
        return len(self.data or b"")

    @property
    def mimetype(self) -> str:
        return guess_type(self.name)[0] or "application/octet-stream"

    @property
    def upload_headers(self) -> list[str]:
        """Headers that the client has to send with the upload, as `Name:Value`."""
        return [f"Content-MD5:{self.expected_md5}"] if self.expected_md5 else []


@dataclass
class Blobs:
    """Every object, by its unguessable token."""

    by_token: dict[str, Blob] = field(default_factory=dict)

    def reserve(self, name: str, expected_md5: str | None = None) -> Blob:
        """Make room for an upload."""
        blob = Blob(secrets.token_urlsafe(24), name, expected_md5)
        self.by_token[blob.token] = blob
        return blob

    def upload(self, token: str, data: bytes, now: float) -> Blob:
        """Keep the content. Raises 404 for an unknown address, 400 when the MD5 differs."""
        blob = self._at(token)
        actual = base64.b64encode(md5(data).digest()).decode()
        if blob.expected_md5 and blob.expected_md5 != actual:
            raise Refusal(400, "the Content-MD5 you specified did not match what was received")
        blob.data, blob.updated_at = data, now
        return blob

    def download(self, token: str) -> Blob:
        """Return an uploaded object. Raises 404 when there is none."""
        blob = self._at(token)
        if blob.data is None:
            raise Refusal(404, "no such object")
        return blob

    def _at(self, token: str) -> Blob:
        if token not in self.by_token:
            raise Refusal(404, "no such object")
        return self.by_token[token]


def content(blob: Blob) -> web.Response:
    """Answer with an object's bytes."""
    headers = {"ETag": f'"{md5(blob.data or b"").hexdigest()}"'}
    return web.Response(body=blob.data, content_type=blob.mimetype, headers=headers)


def answer_storage(call: Call, blobs: Blobs, now: float) -> web.Response:
    """Serve a presigned address: PUT stores, GET and HEAD return."""
    token = call.path.removeprefix(STORAGE)
    if call.method == "PUT":
        blob = blobs.upload(token, call.body, now)
        return web.Response(headers={"ETag": f'"{md5(blob.data or b"").hexdigest()}"'})
    if call.method in ("GET", "HEAD"):
        return content(blobs.download(token))
    raise Refusal(405, "method not allowed")


if TYPE_CHECKING:
    from dev.sandbox.wandb.store import Project, Run

PENDING, COMMITTED, DELETED = "PENDING", "COMMITTED", "DELETED"


@dataclass(eq=False)
class Manifest:
    """The list of an artifact's files, uploaded as JSON."""

    id: str
    digest: str
    blob: Blob


@dataclass(eq=False)
class Artifact:
    """One version. `version_index` is None until it is committed."""

    id: str
    collection: "Collection"
    digest: str
    created_at: float
    digest_algorithm: str = "MANIFEST_MD5"
    state: str = PENDING
    version_index: int | None = None
    description: str | None = None
    metadata: str | None = None
    history_step: int | None = None
    updated_at: float | None = None
    tags: list[str] = field(default_factory=list)
    wanted_aliases: list[str] = field(default_factory=list)
    creator: "Run | None" = None
    users: "list[Run]" = field(default_factory=list)
    manifest: Manifest | None = None

    @property
    def name(self) -> str:
        """`collection:vN`, the name that stays."""
        return f"{self.collection.name}:v{self.version_index}"

    @property
    def aliases(self) -> list[str]:
        return [a for a, holder in self.collection.aliases.items() if holder is self]

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return the manifest's entries by path, empty before the manifest is uploaded."""
        if self.manifest is None or self.manifest.blob.data is None:
            return {}
        contents: dict[str, dict[str, Any]] = orjson.loads(self.manifest.blob.data)["contents"]
        return contents

    def file_blob(self, path: str) -> Blob | None:
        """Return the stored content of one path, None for a reference or an unknown path."""
        entry = self.entries().get(path)
        if entry is None or "ref" in entry:
            return None
        stored = self.collection.contents.get(entry["digest"])
        return stored[1] if stored else None


@dataclass(eq=False)
class Collection:
    """All versions of one artifact name. `contents`: digest to (first owner's id, bytes)."""

    id: str
    name: str
    type_name: str
    project: "Project"
    created_at: float
    versions: list[Artifact] = field(default_factory=list)
    aliases: dict[str, Artifact] = field(default_factory=dict)
    contents: dict[str, tuple[str, Blob]] = field(default_factory=dict)

    def kept(self) -> list[Artifact]:
        """Return the committed versions that were not deleted, oldest first."""
        return [a for a in self.versions if a.state == COMMITTED]

    @property
    def latest(self) -> Artifact | None:
        return max(self.kept(), key=lambda a: a.version_index or 0, default=None)

    def with_digest(self, digest: str) -> Artifact | None:
        return next((a for a in self.kept() if a.digest == digest), None)

    def find(self, alias: str) -> Artifact | None:
        """Return the version that an alias, `latest` or `vN` names."""
        for artifact in self.kept():
            if f"v{artifact.version_index}" == alias:
                return artifact
        return self.aliases.get(alias)

    def commit(self, artifact: Artifact, now: float) -> None:
        """Number a draft and point its aliases at it. Raises 400 when its files are missing."""
        if artifact.state != PENDING:
            return
        for path, entry in artifact.entries().items():
            blob = artifact.file_blob(path)
            if "ref" not in entry and (blob is None or blob.data is None):
                raise Refusal(400, f"artifact file {path} was not uploaded")
        artifact.version_index = sum(a.version_index is not None for a in self.versions)
        artifact.state, artifact.updated_at = COMMITTED, now
        self.point([*artifact.wanted_aliases, "latest"], artifact)

    def point(self, aliases: list[str], artifact: Artifact) -> None:
        """Move aliases to a version, away from the one that had them."""
        for alias in aliases:
            self.aliases[alias] = artifact

    def delete(self, artifact: Artifact) -> None:
        """Delete a version; `latest` goes back to the newest one that remains."""
        for alias in artifact.aliases:
            del self.aliases[alias]
        artifact.state = DELETED
        if self.latest is not None:
            self.aliases["latest"] = self.latest
