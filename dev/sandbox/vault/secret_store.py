"""Secrets and their versions, apart from who may read them and how HTTP shows them.

Decides which version is current and when Key Vault's events are due. Values are kept out of
`repr`, so that no log or traceback of the sandbox holds one.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from dev.sandbox import events
from dev.sandbox.store import World

NEAR_EXPIRY_S = 30 * 86_400
"""How long before its end a version's SecretNearExpiry is due: 30 days, in seconds."""


@dataclass
class Version:
    """One version. Times are unix seconds; `nbf` and `exp` may be None (no limit)."""

    version: str
    value: str = field(repr=False)
    enabled: bool
    nbf: int | None
    exp: int | None
    created: int
    updated: int
    content_type: str | None = None
    tags: dict[str, str] | None = None


@dataclass
class Secret:
    """A secret's versions, oldest first; the last one is current."""

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    deleted_at: int | None = None

    @property
    def current(self) -> Version:
        return next(reversed(self.versions.values()))


@dataclass(frozen=True)
class NewVersion:
    """What a new version holds; times in unix seconds or None."""

    value: str = field(repr=False)
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    content_type: str | None = None
    tags: dict[str, str] | None = None


def add_version(
    world: World, vault: dict[str, Any], secrets: dict[str, Secret], name: str, new: NewVersion
) -> Version:
    """Add a version to a secret, made if need be, and publish its events.

    `vault` is the vault's ARM body, `secrets` the vault's secrets by lower-case name.
    """
    now = int(time.time())
    version = Version(
        version=uuid4().hex,
        value=new.value,
        enabled=new.enabled,
        nbf=new.nbf,
        exp=new.exp,
        created=now,
        updated=now,
        content_type=new.content_type,
        tags=new.tags,
    )
    secret = secrets.setdefault(name.lower(), Secret(name))
    secret.versions[version.version] = version
    _publish(world, "SecretNewVersionCreated", vault, secret, version)
    announce_expiry(world, vault, secret, version)
    return version


def announce_expiry(world: World, vault: dict[str, Any], secret: Secret, version: Version) -> None:
    """Publish near-expiry and expiry when they are due, at once if that has passed already.

    An event whose time comes later is held back if the version is no longer current by then or
    its expiry has changed.
    """
    exp = version.exp
    if exp is None:
        return
    now = time.time()
    if exp <= now:
        _publish(world, "SecretExpired", vault, secret, version)
        return
    for kind, due in (("SecretNearExpiry", exp - NEAR_EXPIRY_S), ("SecretExpired", exp)):

        def publish(kind: str = kind) -> None:
            if secret.current is version and version.exp == exp:
                _publish(world, kind, vault, secret, version)

        if due <= now:
            publish()
        else:
            world.later(due - now, publish)


def identifier(vault: dict[str, Any], name: str, version: str | None = None) -> str:
    """Return a secret's id, with its version if given; the host is always in lower case."""
    base = f"{vault['properties']['vaultUri']}secrets/{name}"
    return base if version is None else f"{base}/{version}"


def _publish(
    world: World, kind: str, vault: dict[str, Any], secret: Secret, version: Version
) -> None:
    events.publish_secret(
        world,
        kind,
        vault,
        {
            "id": identifier(vault, secret.name, version.version),
            "name": secret.name,
            "version": version.version,
            "nbf": version.nbf,
            "exp": version.exp,
        },
    )


def read_time(name: str, value: Any) -> int | None:
    """Read a control body's time: ISO date, unix seconds or None. Raises ValueError."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            # A date without a zone means UTC, as everywhere in Azure.
            zone = "" if moment.tzinfo else "+00:00"
            return int(datetime.fromisoformat(moment.isoformat() + zone).timestamp())
    raise ValueError(f"{name}: must be an ISO date, unix seconds or null")
