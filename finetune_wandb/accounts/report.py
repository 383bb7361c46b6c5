"""Sums up a pass: is the account healthy, can that change on its own, and when is the next pass."""

from dataclasses import replace
from datetime import datetime

from finetune_wandb.accounts.read import ReadFailure, State, failure_of
from finetune_wandb.model.accounts.key import KeyRecord
from finetune_wandb.model.accounts.report import AccountReport, Finding, Step, StepOutcome
from finetune_wandb.model.accounts.vault import Vault
from finetune_wandb.model.causes import as_warning, finding, is_temporary
from finetune_wandb.model.errors import AppError
from finetune_wandb.model.ids import AccountId
from finetune_wandb.model.routes import plain_tags
from finetune_wandb.model.settings import Settings

RETRY_AFTER_S = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)
"""Pauses before the next pass, by attempt. A new role can take 30 minutes to take effect; after the
last pause, an hour in all, the drift timer goes on."""

_LONGEST_PAUSE_S = 6 * 3600.0


def build_report(
    state: State,
    findings: tuple[Finding, ...],
    *,
    plan: tuple[Step, ...],
    outcomes: tuple[StepOutcome, ...],
    attempt: int,
) -> AccountReport:
    """Return the report of a pass whose account could be read."""
    wish = state.desired
    account = state.account
    findings = (*findings, *(_about_outcome(item, state) for item in outcomes if item.reason))
    findings = tuple(_with_ids(item, state) for item in findings)
    record = state.key.record if state.key else None
    routable = wish.secret is not None and wish.routable
    temporary = [item for item in findings if is_temporary(item)]
    return AccountReport(
        id=account.id,
        checked_at=state.now,
        mode=wish.mode,
        findings=findings,
        in_scope=wish.in_scope,
        healthy=not any(item.severity == "blocked" for item in findings),
        settled=not temporary,
        kind=account.kind,
        region=account.region,
        endpoint=account.endpoint,
        entity=_entity(wish.entity, record) if routable else "",
        project=wish.project if routable else "",
        secret=wish.secret,
        principal_id=account.principal_id,
        native_seen=state.native_seen,
        # All of them: a rule that is new tomorrow may name any.
        tags=plain_tags(account.tags),
        plan=plan,
        steps=outcomes,
        retry_after_s=_pause(state, outcomes, attempt) if temporary else None,
    )


def _with_ids(item: Finding, state: State) -> Finding:
    """Fill the app's facts into a finding's remedy, so that it can be pasted and run."""
    remedy = item.remedy
    if isinstance(state.own_principal, str) and state.own_principal:
        remedy = remedy.replace("APP_IDENTITY", state.own_principal)
    if isinstance(state.vault, Vault):
        scope = f'"{state.vault.id}"'
        remedy = remedy.replace(f"SCOPE_OF_VAULT_{state.vault.address.name}", scope)
    return replace(item, remedy=remedy)


def _entity(wanted: str, record: KeyRecord | None) -> str:
    """Return where runs go, in W&B's spelling if the key in use belongs to that entity."""
    owner = record.owner if record else None
    if not wanted:
        return record.entity if record else ""
    return (owner.spelled(wanted) if owner else "") or wanted


def unreadable_report(
    target: AccountId, error: AppError, settings: Settings, now: datetime, attempt: int
) -> AccountReport:
    """Return the report of an account that does not exist or could not be read."""
    failure = failure_of(error)
    cause = failure.cause("account")
    if failure.code == "SubscriptionNotFound":
        cause = "account_subscription_gone"
    temporary = failure.kind == "temporary"
    return AccountReport(
        id=target,
        checked_at=now,
        mode=settings.apply_mode,
        findings=(finding(cause, **target.names, code=failure.code),),
        readable=False,
        deleted=failure.kind == "missing",
        settled=not temporary,
        retry_after_s=_longest([failure.retry_after], attempt) if temporary else None,
    )


def _about_outcome(outcome: StepOutcome, state: State) -> Finding:
    """Return the finding about a step that was not done; only a warning for excess rights."""
    found = _obstacle(outcome, state)
    return as_warning(found) if outcome.step.kind == "revoke_role" else found


def _obstacle(outcome: StepOutcome, state: State) -> Finding:
    step = outcome.step
    evidence = state.account.id.names | {
        "step": step.kind,
        "target": step.target,
        "code": outcome.code,
        "detail": outcome.detail,
    }
    if outcome.reason == "temporary" or (outcome.reason == "denied" and state.is_spreading):
        return finding("step_waiting", **evidence)
    if outcome.reason == "denied":
        return finding(f"{step.kind}_denied", **evidence)
    if outcome.reason == "missing":
        return finding("step_target_gone", **evidence)
    return finding(_cause_of_refusal(outcome.code), **evidence)


def _cause_of_refusal(code: str) -> str:
    """Return the cause for a refusal that neither waiting nor another role of the app resolves."""
    if code in _REFUSALS:
        return _REFUSALS[code]
    if code.endswith("LimitExceeded") and "tag" in code.lower():
        return "step_tag_limit"
    return "step_quota" if code.endswith(("LimitExceeded", "QuotaExceeded")) else "step_refused"


_REFUSALS = {
    "ScopeLocked": "step_locked",
    "RequestDisallowedByPolicy": "step_against_policy",
    "LinkedAuthorizationFailed": "step_linked_denied",
    "LinkedAccessCheckFailed": "step_linked_denied",
    "ReadOnlyDisabledSubscription": "step_subscription_disabled",
    "SubscriptionNotFound": "step_subscription_gone",
    "SubscriptionNotRegistered": "step_provider_not_registered",
    "MissingSubscriptionRegistration": "step_provider_not_registered",
    "RoleAssignmentLimitExceeded": "step_role_limit",
}


def _pause(state: State, outcomes: tuple[StepOutcome, ...], attempt: int) -> float | None:
    asked = [item.retry_after for item in outcomes]
    asked += [
        fact.retry_after
        for fact in (state.vault, state.assignments)
        if isinstance(fact, ReadFailure)
    ]
    asked.append(state.key.retry_after_s if state.key else None)
    return _longest(asked, attempt)


def _longest(asked: list[float | None], attempt: int) -> float | None:
    """Return the pause of this attempt, or a longer one that a service asked for."""
    if attempt >= len(RETRY_AFTER_S):
        return None
    longest = max([RETRY_AFTER_S[attempt], *(pause for pause in asked if pause is not None)])
    return min(longest, _LONGEST_PAUSE_S)
