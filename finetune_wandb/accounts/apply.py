"""Runs a plan's steps through the ports: one outcome each, whatever happens.

Every step is idempotent. Each change of an account starts from a fresh read; the answer to a write
becomes the new state. A step is skipped if one that it needs did not succeed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from finetune_wandb.accounts.checks.vault import is_foreign, lasting_rights
from finetune_wandb.accounts.ports import ReconcilePorts
from finetune_wandb.accounts.read import State, failure_of
from finetune_wandb.model.accounts.account import TAG_SECRET, TAG_VAULT, Account
from finetune_wandb.model.accounts.report import Step, StepKind, StepOutcome, StepState
from finetune_wandb.model.accounts.vault import RoleAssignment, Vault, with_policy
from finetune_wandb.model.audit import AuditEntry, Occasion, recorded
from finetune_wandb.model.errors import AppError, NotReadyError, TemporaryError
from finetune_wandb.model.settings import ApplyMode


async def apply_plan(
    state: State, plan: tuple[Step, ...], mode: ApplyMode, ports: ReconcilePorts, occasion: Occasion
) -> tuple[State, tuple[StepOutcome, ...]]:
    """Return the state after the steps that ran, and one outcome per step in plan order.

    Each attempted step is in the audit, with the occasion of the pass.
    """
    outcomes: list[StepOutcome] = []
    reached: dict[StepKind, StepState] = {}
    for step in plan:
        state, outcome = await _run(state, step, mode, reached, ports, occasion)
        reached[step.kind] = outcome.state
        outcomes.append(outcome)
    return state, tuple(outcomes)


async def _run(
    state: State,
    step: Step,
    mode: ApplyMode,
    reached: dict[StepKind, StepState],
    ports: ReconcilePorts,
    occasion: Occasion,
) -> tuple[State, StepOutcome]:
    if mode == "observe":
        asked = "this pass only checks" if state.desired.mode == "full" else _OBSERVED
        return state, StepOutcome(step, "skipped", asked)
    if step.kind in _ON_VAULT and _is_foreign(state):
        # Known only now: an account without an identity has no tenant.
        return state, StepOutcome(step, "skipped", "the vault is another tenant's")
    for need in step.needs:
        if reached.get(need, "done") != "done":
            waits = reached[need] == "deferred"
            return state, StepOutcome(step, "deferred" if waits else "skipped", f"needs {need}")
    entry = AuditEntry(
        at=state.now,
        action=step.kind,
        subject=str(state.account.id),
        outcome="begun",
        cause=step.cause,
        trigger=occasion.trigger,
        by=occasion.by,
        detail={"target": step.target, **step.values},
    )
    try:
        async with recorded(ports.audit, entry):
            return await _STEPS[step.kind](state, step, ports), StepOutcome(step, "done")
    except TemporaryError as error:
        return state, StepOutcome(
            step, "deferred", error.message, error.code, "temporary", error.retry_after
        )
    except AppError as error:
        return state, StepOutcome(step, "failed", error.message, error.code, failure_of(error).kind)


_OBSERVED: Final = "APPLY_MODE or the account's tag is observe"
_ON_VAULT: frozenset[StepKind] = frozenset({"grant_role", "revoke_role", "add_access_policy"})


def _is_foreign(state: State) -> bool:
    return isinstance(state.vault, Vault) and is_foreign(state.vault, state.account.tenant_id)


async def _enable_identity(state: State, step: Step, ports: ReconcilePorts) -> State:
    account = await _read_for_write(state, ports)
    if not account.system_identity:
        # In one PATCH, so that the account raises one event fewer.
        tags = _missing_tags(account, step)
        account = await ports.accounts.update_identity(account, tags)
    return replace(state, account=account)


async def _write_record(state: State, step: Step, ports: ReconcilePorts) -> State:
    if not _missing_tags(state.account, step):
        return state  # written with the identity
    account = await _read_for_write(state, ports)
    if tags := _missing_tags(account, step):
        account = await ports.accounts.update_tags(account, tags)
    return replace(state, account=account)


async def _read_for_write(state: State, ports: ReconcilePorts) -> Account:
    """Read the account right before a PATCH, which replaces all its tags and identities.

    The pass began up to 30 seconds ago; changes that others made since must be kept.
    """
    account = await ports.accounts.read(state.account.id)
    if not account.settled:
        raise NotReadyError("another operation on it is in progress", subject=account.id.key)
    return account


def _missing_tags(account: Account, step: Step) -> dict[str, str]:
    """Return the record's tags that a step names and the account lacks."""
    named = {name: step.values[name] for name in (TAG_VAULT, TAG_SECRET) if name in step.values}
    return {name: value for name, value in named.items() if not account.tag(name)}


async def _grant_role(state: State, step: Step, ports: ReconcilePorts) -> State:
    made = await ports.roles.assign(
        step.target, step.values["role_id"], _principal(state.account), step.values["description"]
    )
    return _change_assignments(
        state,
        ports,
        lambda kept: (*(item for item in kept if item.id.lower() != made.id.lower()), made),
    )


async def _revoke_role(state: State, step: Step, ports: ReconcilePorts) -> State:
    # Others may have removed meanwhile what is to take its place.
    state = replace(state, assignments=await ports.roles.list_for_scope(state.scope))
    if all(item.is_fresh(state.now) for item in lasting_rights(state)):
        raise NotReadyError("the narrower role is not in effect yet", subject=step.target)
    await ports.roles.remove(step.target)
    return _change_assignments(
        state, ports, lambda kept: tuple(item for item in kept if item.id != step.target)
    )


def _change_assignments(
    state: State,
    ports: ReconcilePorts,
    change: Callable[[tuple[RoleAssignment, ...]], tuple[RoleAssignment, ...]],
) -> State:
    """Update the known assignments, for this account and the others that share the scope."""

    def changed[T](kept: T) -> T | tuple[RoleAssignment, ...]:
        # If the list could not be read, this one assignment is not the whole list.
        return change(kept) if isinstance(kept, tuple) else kept

    ports.shared.amend(state.scope.lower(), changed)
    return replace(state, assignments=changed(state.assignments))


async def _add_access_policy(state: State, step: Step, ports: ReconcilePorts) -> State:
    assert isinstance(state.vault, Vault), "a plan names no policy without a vault"
    principal = _principal(state.account)
    await ports.vaults.add_policy(state.vault, principal)
    ports.shared.amend(
        state.vault.address,
        # Others may have added policies meanwhile; those are kept.
        lambda kept: with_policy(kept, principal) if isinstance(kept, Vault) else kept,
    )
    return replace(state, vault=with_policy(state.vault, principal))


def _principal(account: Account) -> str:
    if not account.principal_id:
        raise NotReadyError("the identity has no principal yet", subject=account.id.key)
    return account.principal_id


_STEPS: dict[StepKind, Callable[[State, Step, ReconcilePorts], Awaitable[State]]] = {
    "enable_identity": _enable_identity,
    "grant_role": _grant_role,
    "revoke_role": _revoke_role,
    "add_access_policy": _add_access_policy,
    "write_record": _write_record,
}
