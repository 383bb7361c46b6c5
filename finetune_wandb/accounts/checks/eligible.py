"""Rule: the account is one to look after, and nothing about it stands in the way."""

from finetune_wandb.accounts.state import State
from finetune_wandb.model.account import BROKEN
from finetune_wandb.model.causes import finding
from finetune_wandb.model.finding import Finding


def check_eligible(state: State) -> list[Finding]:
    """Return why the account is left alone, or what keeps it from being integrated."""
    account = state.account
    evidence = {
        "account": account.id.name,
        "account_id": str(account.id),
        "group": account.id.group,
        "subscription": account.id.subscription,
        "kind": account.kind,
    }
    if not state.desired.in_scope:
        return [finding(state.desired.scope_cause, **evidence)]
    found: list[Finding] = []
    if not account.settled:
        found.append(
            finding("operation_under_way", **evidence, provisioning=account.provisioning_state)
        )
    elif account.provisioning_state.lower() in BROKEN:
        found.append(
            finding("provisioning_failed", **evidence, provisioning=account.provisioning_state)
        )
    if not account.custom_subdomain:
        found.append(finding("no_custom_subdomain", **evidence))
    return found or [finding("eligible", **evidence)]
