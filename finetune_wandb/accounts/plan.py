"""Turns findings into the ordered steps that clear them. Pure; `apply.py` decides which run.

The order is the one that Azure requires: the identity, then its access, then the record of what it
has access to.
"""

from finetune_wandb.accounts.checks.account import missing_tags
from finetune_wandb.accounts.checks.vault import (
    description_for,
    excess_rights,
    lasting_rights,
)
from finetune_wandb.accounts.read import State
from finetune_wandb.model.accounts.report import Finding, Step, StepKind
from finetune_wandb.model.accounts.vault import ROLE_IDS, Vault

_POLICY_CAUSES = frozenset({"access_policy_missing", "access_policy_incomplete"})


def plan_steps(state: State, findings: tuple[Finding, ...]) -> tuple[Step, ...]:
    """Return the steps for an account in scope, in order; empty when nothing differs."""
    causes = {item.cause for item in findings}
    # Azure takes no change while another operation is under way.
    if not state.desired.in_scope or "operation_under_way" in causes:
        return ()
    account, vault, record = state.account, state.vault, missing_tags(state)
    principal = {"principal": account.principal_id} if account.principal_id else {}
    steps: list[Step] = []
    needs: tuple[StepKind, ...] = ()
    if "identity_off" in causes:
        kept = ", ".join(account.user_identities)
        values = ({"keeps": kept} if kept else {}) | record
        steps.append(Step("enable_identity", str(account.id), "identity_off", values=values))
        needs = ("enable_identity",)
    if isinstance(vault, Vault):
        role = {
            "role": state.desired.role,
            "role_id": ROLE_IDS[state.desired.role],
            "description": description_for(account.id),
        }
        scope, policy = state.scope, {"secrets": "get, list"}
        ours = [(cause, item) for cause, item in excess_rights(state) if item.is_ours]
        if "access_missing" in causes or (ours and not lasting_rights(state)):
            # The replacement is assigned before the wider role is taken back.
            cause = "access_missing" if "access_missing" in causes else ours[0][0]
            steps.append(Step("grant_role", scope, cause, needs, role | principal))
        for cause, item in ours:
            values = {"role": item.role, "scope": item.scope, "principal": item.principal_id}
            steps.append(Step("revoke_role", item.id, cause, ("grant_role",), values))
        for cause in sorted(causes & _POLICY_CAUSES):
            steps.append(Step("add_access_policy", vault.id, cause, needs, policy | principal))
    if "record_missing" in causes:
        steps.append(Step("write_record", str(account.id), "record_missing", needs, record))
    return tuple(steps)
