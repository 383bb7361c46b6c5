"""Turns findings into the ordered steps that clear them. Pure; whether they may run is policy's.

The order is the one in which Azure needs them: an identity first, then its access, then the
record of what it has access to.
"""

from finetune_wandb.accounts.checks.access import description_for
from finetune_wandb.accounts.checks.account import missing_tags
from finetune_wandb.accounts.read import State
from finetune_wandb.model.report import Finding, Step, StepKind
from finetune_wandb.model.vault import ROLE_IDS, Vault

_NOTHING_WHILE = frozenset({"operation_under_way"})
"""Causes during which Azure takes no change to the account."""

_ROLE_CAUSES = frozenset({"access_missing"})
_POLICY_CAUSES = frozenset({"access_policy_missing", "access_policy_incomplete"})


def plan_steps(state: State, findings: tuple[Finding, ...]) -> tuple[Step, ...]:
    """Return the steps for an account in scope, in order; empty when nothing differs."""
    causes = {item.cause for item in findings}
    if not state.desired.in_scope or causes & _NOTHING_WHILE:
        return ()
    steps: list[Step] = []
    if "identity_off" in causes:
        steps.append(_enable_identity(state, missing_tags(state)))
    needs: tuple[StepKind, ...] = ("enable_identity",) if steps else ()
    if isinstance(state.vault, Vault):
        for cause in sorted(causes & _ROLE_CAUSES):
            steps.append(_grant_role(state, state.vault, cause, needs))
        for cause in sorted(causes & _POLICY_CAUSES):
            steps.append(_add_policy(state, state.vault, cause, needs))
    if "record_missing" in causes:
        steps.append(
            Step(
                kind="write_record",
                target=str(state.account.id),
                cause="record_missing",
                needs=needs,
                values=missing_tags(state),
            )
        )
    return tuple(steps)


def _enable_identity(state: State, record: dict[str, str]) -> Step:
    kept = ", ".join(state.account.user_identities)
    return Step(
        kind="enable_identity",
        target=str(state.account.id),
        cause="identity_off",
        values=({"keeps": kept} if kept else {}) | record,
    )


def _grant_role(state: State, vault: Vault, cause: str, needs: tuple[StepKind, ...]) -> Step:
    values = {
        "role": state.desired.role,
        "role_id": ROLE_IDS[state.desired.role],
        "description": description_for(state.account.id),
    }
    return Step(
        kind="grant_role",
        target=state.desired.scope(vault),
        cause=cause,
        needs=needs,
        values=_with_principal(values, state),
    )


def _add_policy(state: State, vault: Vault, cause: str, needs: tuple[StepKind, ...]) -> Step:
    return Step(
        kind="add_access_policy",
        target=vault.id,
        cause=cause,
        needs=needs,
        values=_with_principal({"secrets": "get, list"}, state),
    )


def _with_principal(values: dict[str, str], state: State) -> dict[str, str]:
    principal = state.account.principal_id
    return values | {"principal": principal} if principal else values
