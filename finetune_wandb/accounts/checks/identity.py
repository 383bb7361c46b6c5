"""Rule: the account's system-assigned identity is on and has a principal."""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding


def check_identity(state: State) -> list[Finding]:
    """Return whether there is an identity that can be given access."""
    account = state.account
    evidence = {
        "account": account.id.name,
        "group": account.id.group,
        "subscription": account.id.subscription,
        "principal": account.principal_id,
    }
    if not account.system_identity:
        return [finding("identity_off", **evidence)]
    if not account.principal_id:
        return [finding("identity_pending", **evidence)]
    return [finding("identity_on", **evidence)]
