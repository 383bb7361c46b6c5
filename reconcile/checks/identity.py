"""Rule: the account's system-assigned identity is on and has a principal."""

from model.finding import Finding
from reconcile.causes import finding
from reconcile.state import State


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
