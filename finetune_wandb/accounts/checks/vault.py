"""Rules about the vault, the secret in it, and the key that the secret holds.

What is so about secret and key was found while proving the key (`finetune_wandb/keys/in_use.py`), once for
all accounts.
"""

from finetune_wandb.accounts.read import ReadFailure, State
from finetune_wandb.model.causes import finding
from finetune_wandb.model.ids import subscription_of
from finetune_wandb.model.report import Finding
from finetune_wandb.model.vault import Vault


def check_vault(state: State) -> list[Finding]:
    """Return what speaks for and against the vault that the account is to read from."""
    wish = state.desired
    if wish.vault_cause:
        return [finding(wish.vault_cause, vault=wish.vault_asked)]
    if isinstance(state.vault, ReadFailure):
        return [_unread(state.vault, wish.vault_asked)]
    if state.vault is None:
        return []
    return _about(state.vault, state.account.tenant_id)


def _unread(failure: ReadFailure, vault: str) -> Finding:
    code = {
        "temporary": "vault_unavailable",
        "denied": "vault_denied",
        "refused": "vault_refused",
        "missing": "vault_soft_deleted" if failure.code == "SoftDeleted" else "vault_missing",
    }[failure.kind]
    return finding(code, vault=vault, code=failure.code)


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


def check_secret(state: State) -> list[Finding]:
    """Return what speaks for and against the secret as the vault holds it."""
    wish = state.desired
    if wish.secret_cause:
        return [finding(wish.secret_cause, secret=wish.secret_asked)]
    return list(state.key.secret_findings) if state.key else []


def check_key(state: State) -> list[Finding]:
    """Return what W&B says about the key, or that it could not be asked."""
    return list(state.key.key_findings) if state.key else []
