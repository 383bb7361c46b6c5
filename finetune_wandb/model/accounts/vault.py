"""A Key Vault as ARM shows it, the roles and policies on it, and the secret inside.

Knows which roles give which rights; `accounts/checks/vault.py` decides whether they suffice.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from finetune_wandb.model.ids import VaultAddress
from finetune_wandb.model.secret import Secret
from finetune_wandb.model.settings import OFFICER, USER

ADMINISTRATOR = "Key Vault Administrator"

ROLE_IDS = {
    USER: "4633458b-17de-408a-b874-0445c86b69e6",
    OFFICER: "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    ADMINISTRATOR: "00482a5a-887f-4fb3-b363-3b7fe8e74483",
}
"""Built-in roles that let their holder read a secret's value, weakest first.

Source: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/security
(checked 2026-11-24).
"""

ROLE_NAMES = {guid: name for name, guid in ROLE_IDS.items()}
_STRENGTH = {name: rank for rank, name in enumerate(ROLE_IDS)}


def strength(role: str) -> int:
    """Return how much a role allows: a higher number includes every lower one; -1 is nothing."""
    return _STRENGTH.get(role, -1)


SPREADS_WITHIN = timedelta(minutes=30)
"""How long after its assignment a role may not be in effect everywhere yet.

Source: https://learn.microsoft.com/azure/role-based-access-control/troubleshooting (ten minutes),
and the Foundry page on Key Vault connections (thirty), checked 2026-11-24.
"""


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """One role assignment. `scope` is an ARM id in lower case, ids are in lower case."""

    id: str
    scope: str
    role_id: str
    """The role definition's bare GUID."""
    principal_id: str
    description: str = ""
    made_at: datetime | None = None

    def is_fresh(self, now: datetime) -> bool:
        """Return whether the role may not be in effect everywhere yet."""
        return self.made_at is not None and abs(now - self.made_at) < SPREADS_WITHIN

    @property
    def is_ours(self) -> bool:
        """Whether its name is the one that only the app gives."""
        name = assignment_name(self.scope, self.principal_id, self.role_id)
        return self.id.rpartition("/")[2].lower() == name

    @property
    def role(self) -> str:
        """The role's name, empty for a role that gives no right to secrets."""
        return ROLE_NAMES.get(self.role_id, "")


def assignment_name(scope: str, principal_id: str, role_id: str) -> str:
    """Return the GUID of an assignment. The same three always give the same name, so assigning
    again repeats the assignment and makes no second one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}|{principal_id}|{role_id}".lower()))


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What one identity may do with the secrets of a vault in access-policy mode."""

    object_id: str
    secret_permissions: frozenset[str]
    """In lower case."""


@dataclass(frozen=True, slots=True)
class Vault:
    """A vault's control-plane facts."""

    id: str
    """ARM id as the service wrote it."""
    address: VaultAddress
    tenant_id: str
    rbac: bool
    """False: access policies decide (ARM's null means that too)."""
    policies: tuple[AccessPolicy, ...] = ()
    public_access: bool = True
    """False: only private endpoints are answered."""
    firewall: bool = False
    """True: networks outside the allow-list are refused."""
    trusted_services: bool = True
    """Whether Azure's own trusted services pass the firewall."""

    def policy_of(self, object_id: str) -> AccessPolicy | None:
        """Return the identity's policy, None when it has none."""
        for policy in self.policies:
            if policy.object_id.lower() == object_id.lower():
                return policy
        return None

    def scope(self, secret: str = "") -> str:
        """Return the ARM scope of the vault, or of one secret in it."""
        return f"{self.id}/secrets/{secret}" if secret else self.id


NEEDED_PERMISSIONS = frozenset({"get", "list"})
"""What an access policy must allow on secrets."""


def with_policy(vault: Vault, object_id: str) -> Vault:
    """Return the vault as it is after the identity was given what it needs."""
    held = vault.policy_of(object_id)
    permissions = NEEDED_PERMISSIONS | (held.secret_permissions if held else frozenset())
    others = tuple(item for item in vault.policies if item is not held)
    return replace(vault, policies=(*others, AccessPolicy(object_id, permissions)))


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret. Times are UTC; None means that the vault sets no such limit."""

    version: str
    enabled: bool
    not_before: datetime | None
    expires: datetime | None
    value: Secret
    tags: Mapping[str, str] = field(default_factory=dict)
