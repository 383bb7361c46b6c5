"""Switches of the whole sandbox: how slow, how paged and how strict Azure is played.

Set by `PUT /_sandbox/settings`, back to the defaults at each reset.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dev.sandbox.store import World


@dataclass
class Settings:
    """All switches, with the values that a fresh sandbox has."""

    lro_seconds: float = 0.0
    """How long a write to an account takes. 0: done at once (200 or 201); more: 202 with
    Location, and the account refuses other writes until it is done."""

    retry_after: int = 1
    """Retry-After of a 202, in seconds. At least 1: SDKs read 0 as absent and wait 30 s."""

    identity_delay_s: float = 0.0
    """How long an account's new system identity shows no principalId after the write is done."""

    principal_replication_s: float = 0.0
    """How long a new principal is unknown to role assignments (400 PrincipalNotFound)."""

    rbac_propagation_s: float = 0.0
    """How long a new role assignment does not count yet; needs `enforce_vault_access`."""

    enforce_vault_access: bool = False
    """True: secrets need a role or an access policy for the caller's object id. False: any
    bearer token may, unless the vault's network or its `access` switch says no."""

    openai_role_s: float = 0.0
    """How long a token is refused by an account's data plane from its first call on (401
    `PermissionDenied`): the caller's role has not spread yet."""

    page_size: int = 100
    """Resources per page in ARM lists."""

    secret_page_size: int = 25
    """Secrets or versions per page when the client does not ask for a number."""

    sample_event_quirks: bool = True
    """True: Key Vault events have the quirks of Microsoft's published sample: a key
    `ObjectName ` with a trailing space, a version with a leading one. False: tidy names."""

    event_copies: int = 1
    """How many times each event is delivered; Event Grid promises at least once. 0: all are lost."""


_MINIMUM = {"retry_after": 1, "page_size": 1, "secret_page_size": 1}


def of(world: World) -> Settings:
    """Return the settings in force."""
    return world.part("settings", Settings)


def as_json(world: World) -> dict[str, Any]:
    return asdict(of(world))


PACE = ("lro_seconds", "identity_delay_s", "principal_replication_s")
"""Switches that one account may have of its own."""


@dataclass
class Paces:
    """Own switches by account name in lower case."""

    own: dict[str, dict[str, float]] = field(default_factory=dict)


def pace(world: World, account: str, name: str) -> float:
    """Return a switch of PACE as it holds for one account."""
    own = world.part("paces", Paces).own.get(account.lower(), {})
    seconds: float = own[name] if name in own else getattr(of(world), name)
    return seconds


def set_pace(world: World, account: str, body: Any) -> None:
    """Set switches for one account. Raises ValueError that starts with the wrong field."""
    if isinstance(body, dict) and (wrong := sorted(set(body) - set(PACE))):
        raise ValueError(f"{wrong[0]}: an account has of its own only {', '.join(PACE)}")
    _check(body)
    world.part("paces", Paces).own.setdefault(account.lower(), {}).update(body)


def pace_as_json(world: World, account: str) -> dict[str, float]:
    return {name: pace(world, account, name) for name in PACE}


def update(world: World, body: Any) -> None:
    """Set the switches named in the body. Raises ValueError that starts with the wrong field."""
    _check(body)
    settings = of(world)
    for name, value in body.items():
        setattr(settings, name, value)


def _check(body: Any) -> None:
    if not isinstance(body, dict):
        raise ValueError("body: must be a JSON object")
    types = {field.name: field.type for field in fields(Settings)}
    for name, value in body.items():
        kind = types.get(name)
        if kind is None:
            raise ValueError(f"{name}: unknown setting; known: {', '.join(types)}")
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{name}: true or false")
            continue
        number = int if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, number):
            raise ValueError(f"{name}: must be {'a whole' if kind is int else 'a'} number")
        if value < _MINIMUM.get(name, 0):
            raise ValueError(f"{name}: must be at least {_MINIMUM.get(name, 0)}")
