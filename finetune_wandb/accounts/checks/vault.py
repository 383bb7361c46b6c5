"""Rules about the vault, the secret in it, the key that it holds, and who can read it.

The findings about secret and key come from the proof of the key (`finetune_wandb/keys/in_use.py`),
once for all accounts. Access is by role or by policy, with no excess rights.
"""

from dataclasses import replace
from datetime import datetime

from finetune_wandb.accounts.desired import desired_for
from finetune_wandb.accounts.read import ReadFailure, State
from finetune_wandb.model.accounts.account import TAG_SECRET, TAG_VAULT, Account
from finetune_wandb.model.accounts.report import AccountReport, Finding
from finetune_wandb.model.accounts.vault import (
    NEEDED_PERMISSIONS,
    AccessPolicy,
    RoleAssignment,
    Vault,
    strength,
)
from finetune_wandb.model.causes import finding
from finetune_wandb.model.ids import AccountId, subscription_of
from finetune_wandb.model.settings import USER, Settings

_MARK = "wandb-finetune-relay "
_MANAGEMENT_GROUP = "/providers/microsoft.management/"


def check_vault(state: State) -> list[Finding]:
    """Return the findings about the vault that the account is to read from."""
    wish = state.desired
    if wish.vault_cause:
        return [finding(wish.vault_cause, vault=wish.vault_asked)]
    if isinstance(state.vault, ReadFailure):
        code = state.vault.code
        cause = "vault_soft_deleted" if code == "SoftDeleted" else state.vault.cause("vault")
        return [finding(cause, vault=wish.vault_asked, code=code)]
    return _about(state.vault, state.account.tenant_id) if state.vault else []


def _about(vault: Vault, tenant_id: str) -> list[Finding]:
    evidence = {
        "vault": vault.address.name,
        "vault_id": vault.id,
        "subscription": subscription_of(vault.id) or "",
    }
    if is_foreign(vault, tenant_id):
        return [
            finding("vault_other_tenant", **evidence, tenant=tenant_id, of_vault=vault.tenant_id)
        ]
    found = [finding("vault_rbac" if vault.rbac else "vault_policies", **evidence)]
    if not vault.public_access or (vault.firewall and not vault.trusted_services):
        found.append(finding("vault_network_closed", **evidence))
    return found


def is_foreign(vault: Vault, tenant_id: str) -> bool:
    """Return whether the vault is another tenant's; an account without identity has none yet."""
    return bool(tenant_id and vault.tenant_id) and tenant_id.lower() != vault.tenant_id.lower()


def check_key(state: State) -> list[Finding]:
    """Return the findings about the secret in the vault and the key that it holds."""
    wish = state.desired
    if wish.secret_cause:
        return [finding(wish.secret_cause, secret=wish.secret_asked)]
    found = list(state.key.findings) if state.key else []
    return [
        replace(finding("secret_role_spreading", **item.evidence), severity=item.severity)
        if item.cause == "secret_forbidden_by_rbac" and state.is_spreading
        else item
        for item in found
    ]


def description_for(account: AccountId) -> str:
    """Return the description of an assignment, by which the app finds it after the account got
    another principal."""
    return _MARK + account.key


def check_access(state: State) -> list[Finding]:
    """Return whether access exists, is missing, or exceeds what the settings ask for."""
    vault = state.vault
    if not isinstance(vault, Vault) or is_foreign(vault, state.account.tenant_id):
        return []
    if not vault.rbac:
        return _by_policy(state, vault)
    if isinstance(state.assignments, ReadFailure):
        is_gone = state.assignments.kind == "missing"
        code = "access_refused" if is_gone else state.assignments.cause("access")
        return [finding(code, scope=state.scope, code=state.assignments.code)]
    return [] if state.assignments is None else _by_role(state, state.assignments)


def _by_role(state: State, assignments: tuple[RoleAssignment, ...]) -> list[Finding]:
    principal = state.account.principal_id
    wanted = strength(state.desired.role)
    evidence = {
        "role": state.desired.role,
        "principal": principal or "PRINCIPAL",
        "scope": state.scope,
    }
    is_enough = any(strength(item.role) >= wanted for item in _rights(state))
    found = [finding("access_granted" if is_enough else "access_missing", **evidence)]
    found += [_excess(cause, item) for cause, item in excess_rights(state)]
    mark = description_for(state.account.id)
    found += [
        _excess("access_orphaned", item)
        for item in assignments
        if principal and item.description == mark and item.principal_id != principal.lower()
    ]
    return found


def _rights(state: State) -> list[RoleAssignment]:
    """Return the assignments by which the account's identity has rights on the secret."""
    principal = state.account.principal_id.lower()
    known = state.assignments if principal and isinstance(state.assignments, tuple) else ()
    return [
        item for item in known if item.principal_id == principal and _holds_at(item, state.scope)
    ]


def excess_rights(state: State) -> list[tuple[str, RoleAssignment]]:
    """Return the assignments that give more than the settings ask for, each with its cause."""
    wanted, scope = strength(state.desired.role), state.scope.lower()
    found: list[tuple[str, RoleAssignment]] = []
    for item in _rights(state):
        if strength(item.role) > wanted:
            found.append(("access_stronger_than_asked", item))
        elif item.role and state.desired.on_secret and item.scope != scope:
            found.append(("access_wider_than_asked", item))
    return found


def lasting_rights(state: State) -> list[RoleAssignment]:
    """Return the sufficient assignments that the app does not take back."""
    excess = [item for _, item in excess_rights(state) if item.is_ours]
    wanted = strength(state.desired.role)
    return [item for item in _rights(state) if strength(item.role) >= wanted and item not in excess]


def _holds_at(item: RoleAssignment, scope: str) -> bool:
    """Whether an assignment gives its right at `scope`: made there or above it.

    Vaults ignore roles from management groups.
    Source: https://github.com/MicrosoftDocs/azure-docs/issues/89150 (checked 2026-11-24).
    """
    above = item.scope.rstrip("/")
    if not above or above.startswith(_MANAGEMENT_GROUP):
        return False
    return scope.lower() == above or scope.lower().startswith(above + "/")


def _excess(code: str, item: RoleAssignment) -> Finding:
    return finding(
        code,
        assignment=item.id,
        role=item.role,
        principal=item.principal_id,
        scope=item.scope,
    )


def _by_policy(state: State, vault: Vault) -> list[Finding]:
    principal = state.account.principal_id
    evidence = {
        "vault": vault.address.name,
        "subscription": subscription_of(vault.id) or "",
        "principal": principal or "PRINCIPAL",
    }
    policy = vault.policy_of(principal) if principal else None
    if policy is None:
        return [finding("access_policy_missing", **evidence)]
    if not _allows(policy):
        return [
            finding(
                "access_policy_incomplete",
                **evidence,
                has=", ".join(sorted(policy.secret_permissions)),
            )
        ]
    found = [finding("access_granted", **evidence)]
    excess = sorted(policy.secret_permissions - NEEDED_PERMISSIONS)
    if state.desired.role == USER and excess:
        found.append(finding("access_policy_stronger", **evidence, has=", ".join(excess)))
    if state.desired.on_secret:
        found.append(finding("access_policy_wider", **evidence))
    return found


def _allows(policy: AccessPolicy) -> bool:
    return "all" in policy.secret_permissions or policy.secret_permissions >= NEEDED_PERMISSIONS


_MODELS = {"vault_rbac", "vault_policies"}


def access_differs(
    entry: AccountReport,
    vault: Vault,
    assignments: tuple[RoleAssignment, ...] | None,
    settings: Settings,
    now: datetime,
) -> bool:
    """Return whether a pass would find other access, or another permission model, than stored.

    An event about a vault's rights does not say whose changed; this comparison costs no read per
    account.
    `assignments` are those that hold at the account's scope; None in access-policy mode.
    """
    if entry.secret is None:
        return False
    known = Account(
        id=entry.id,
        kind=entry.kind,
        region=entry.region,
        provisioning_state="Succeeded",
        endpoint=entry.endpoint,
        principal_id=entry.principal_id,
        tags={TAG_VAULT: entry.secret.vault.url, TAG_SECRET: entry.secret.name},
    )
    state = State(
        account=known,
        desired=desired_for(known, settings),
        settings=settings,
        now=now,
        vault=vault,
        assignments=assignments,
    )
    found = {item.cause for item in check_access(state)}
    stored = {item.cause for item in entry.findings if item.check == "access"}
    model = "vault_rbac" if vault.rbac else "vault_policies"
    models = {item.cause for item in entry.findings if item.cause in _MODELS}
    return found != stored or models != {model}
