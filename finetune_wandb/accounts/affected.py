"""Whether what is stored of an account's access is still so, seen from the vault alone.

An event about a vault's rights does not say whose changed. Comparing the vault's rights with
what is stored tells it without a read per account.
"""

from datetime import datetime

from finetune_wandb.accounts.checks.access import check_access
from finetune_wandb.accounts.desired import desired_for
from finetune_wandb.accounts.state import State
from finetune_wandb.model.account import TAG_SECRET, TAG_VAULT, Account
from finetune_wandb.model.plan import AccountEntry
from finetune_wandb.model.settings import Settings
from finetune_wandb.model.vault import RoleAssignment, Vault

_MODELS = {"vault_rbac", "vault_policies"}


def access_differs(
    entry: AccountEntry,
    vault: Vault,
    assignments: tuple[RoleAssignment, ...] | None,
    settings: Settings,
    now: datetime,
) -> bool:
    """Return whether a pass would find other access, or another permission model, than stored.

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
        desired=desired_for(known, settings, apply=False),
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
