"""Bytes that clients upload: run files and artifact files, behind presigned addresses.

A presigned address carries its own permission, as a cloud bucket's does: no key is asked there.
"""

import base64
import secrets
from dataclasses import dataclass, field
from hashlib import md5
from mimetypes import guess_type

from aiohttp import web

from dev.sandbox.http import Call
from dev.sandbox.wandb.errors import Refusal

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
