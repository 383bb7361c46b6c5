"""Who a W&B key belongs to, what it may read and write, and how a request is refused.

Keys are remembered by their SHA-256 digest only: no answer, log or dump can show a value. An
unregistered key counts as a key of the default user, unless the settings say `reject`.
"""

import base64
import binascii
import re
import secrets
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from aiohttp import web

from dev.sandbox.http import json_response


class Refusal(Exception):
    """A request the service turns down. `code` is the GraphQL error extension, where it has one."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    @property
    def extensions(self) -> dict[str, Any]:
        """What graphql-core copies into the error it reports for a resolver."""
        return {"code": self.code} if self.code else {}


def not_logged_in() -> Refusal:
    return Refusal(401, "user is not logged in", "PERMISSION_ERROR")


def permission_denied() -> Refusal:
    return Refusal(403, "permission denied", "PERMISSION_ERROR")


def no_entity(entity: str) -> Refusal:
    return Refusal(404, f"entity {entity} not found during upsertBucket")


def run_was_deleted(path: str) -> Refusal:
    return Refusal(409, f"run {path} was previously created and deleted; try a new run name")


def graphql_refusal(refusal: Refusal) -> web.Response:
    """Return the refusal in the body shape of the GraphQL endpoint."""
    error: dict[str, Any] = {"message": refusal.message}
    if refusal.code:
        error["extensions"] = {"code": refusal.code}
    return json_response({"errors": [error], "data": None}, status=refusal.status)


def plain_refusal(refusal: Refusal) -> web.Response:
    """Return the refusal in the body shape of the paths outside GraphQL."""
    return json_response({"error": refusal.message}, status=refusal.status)


DEFAULT_ENTITY = "sandbox-team"
DEFAULT_USER = "sandbox-user"
STATES = ("active", "revoked")

# Legacy keys have 40 characters, newer ones about 86; neither length is an upper limit.
_SHAPE = re.compile(r"[A-Za-z0-9_.\-]{40,}")


@dataclass
class Key:
    """One key: its owner's identity and rights. `write` None means the owner's own entities, and
    any entity for a key that nobody registered."""

    digest: str
    username: str
    entity: str
    teams: list[str]
    write: list[str] | None = None
    state: str = "active"
    registered: bool = False
    description: str | None = None

    @property
    def short(self) -> str:
        """The first 12 hex digits of the digest, which is how the sandbox names a key."""
        return self.digest[:12]

    @property
    def id(self) -> str:
        return base64.b64encode(f"ApiKey:{self.short}".encode()).decode()

    def may_write(self, entity: str, project: str) -> bool:
        if self.write is None:
            return self._belongs_to(entity)
        path = f"{entity}/{project}"
        return any(fnmatchcase(path if "/" in p else entity, p) for p in self.write)

    def may_read(self, entity: str) -> bool:
        patterns = self.write or ()
        return self._belongs_to(entity) or any(
            fnmatchcase(entity, p.split("/", 1)[0]) for p in patterns
        )

    def _belongs_to(self, entity: str) -> bool:
        return not self.registered or entity in (self.entity, *self.teams)


def digest_of(value: str) -> str:
    return sha256(value.encode()).hexdigest()


def key_of(authorization: str | None) -> str | None:
    """Return the key of a Basic header with user `api`, or None when there is none."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, found, value = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return value if found and user == "api" else None


@dataclass
class KeyRing:
    """All keys seen or registered, by digest."""

    accept_unknown: bool = True
    keys: dict[str, Key] = field(default_factory=dict)

    def authenticate(self, value: str | None) -> Key:
        """Return the key. Raises a 401 refusal when it is absent, malformed, unknown or revoked."""
        if value is None or not _SHAPE.fullmatch(value):
            raise not_logged_in()
        digest = digest_of(value)
        key = self.keys.get(digest)
        if key is None:
            if not self.accept_unknown:
                raise not_logged_in()
            key = Key(digest, DEFAULT_USER, DEFAULT_ENTITY, [DEFAULT_ENTITY])
            self.keys[digest] = key
        if key.state != "active" or not (key.registered or self.accept_unknown):
            raise not_logged_in()
        return key

    def entities(self) -> set[str]:
        """Return the teams that there are: those of the keys, and what keys may write to."""
        found = {DEFAULT_ENTITY}
        for key in self.keys.values():
            patterns = [pattern.split("/", 1)[0] for pattern in key.write or ()]
            found.update((key.entity, *key.teams, *patterns))
        return found

    def register(self, value: str, key: Key) -> None:
        """Register a key, in place of what was known of it."""
        self.keys[digest_of(value)] = key

    def generate(self, owner: Key, description: str | None) -> tuple[str, Key]:
        """Mint one more key for a key's owner. Returns its value, shown once, and the key."""
        value = f"wandb_v1_{secrets.token_hex(38)}"
        key = Key(
            digest_of(value),
            owner.username,
            owner.entity,
            list(owner.teams),
            None if owner.write is None else list(owner.write),
            registered=True,
            description=description,
        )
        self.keys[key.digest] = key
        return value, key

    def owned_by(self, username: str) -> list[Key]:
        """Return a user's keys in use, oldest first."""
        return [k for k in self.keys.values() if k.username == username and k.state == "active"]

    def revoke(self, key_id: str, caller: Key) -> None:
        """Delete a key by its id. Raises 404 for an unknown one, 403 for another user's."""
        for key in self.keys.values():
            if key.id == key_id and key.state == "active":
                if key.username != caller.username:
                    raise permission_denied()
                key.state = "revoked"
                return
        raise Refusal(404, "api key not found")
