"""Each apply step meets each class of failure; the next pass repairs what it can."""

from datetime import timedelta

import pytest

from finetune_wandb.accounts.report import RETRY_AFTER_S
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    NotReadyError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from tests.accounts.stage import causes, run_pass
from tests.fakes import NOW, PRINCIPAL, TENANT, World, account, account_id, world

STEPS = ("enable identity", "grant role", "write tags")
KINDS = {
    "enable identity": "enable_identity",
    "grant role": "grant_role",
    "write tags": "write_record",
}
TEMPORARY: tuple[AppError, ...] = (
    ThrottledError("a pause", retry_after=400.0),
    UnavailableError("no answer"),
    NotReadyError("not yet", code="PrincipalNotFound"),
    ConflictError("somebody else"),
)
FOR_GOOD: tuple[AppError, ...] = (
    DeniedError("no", code="AuthorizationFailed"),
    RejectedError("no", code="RequestDisallowedByPolicy"),
    MissingError("gone", code="ResourceNotFound"),
)


def _world_for(step: str) -> World:
    """Return a world in which a pass makes this write; the record goes with the identity."""
    if step != "write tags":
        return world()
    return world(account(system_identity=True, principal_id=PRINCIPAL, tenant_id=TENANT))


def _failing(step: str, error: AppError):
    azure = _world_for(step)
    azure.errors[step] = [error]
    return azure


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", TEMPORARY, ids=lambda error: type(error).__name__)
async def test_step_is_deferred_and_later_done_when_the_failure_passes(
    step: str, error: AppError
) -> None:
    azure = _failing(step, error)
    report = await run_pass(azure)
    states = {item.step.kind: item.state for item in report.steps}
    assert states[KINDS[step]] == "deferred"
    assert not report.healthy
    assert not report.settled
    assert report.retry_after_s is not None
    assert "step_waiting" in causes(report, "blocked")
    later = await run_pass(azure, attempt=1, now=NOW + timedelta(minutes=1))
    assert later.healthy
    azure.calls.clear()
    assert (await run_pass(azure)).plan == ()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", FOR_GOOD, ids=lambda error: type(error).__name__)
async def test_step_fails_with_a_remedy_when_trying_again_cannot_help(
    step: str, error: AppError
) -> None:
    azure = _failing(step, error)
    report = await run_pass(azure)
    failed = [item for item in report.steps if item.state == "failed"]
    assert [item.step.kind for item in failed] == [KINDS[step]]
    assert not report.healthy
    assert report.settled
    assert report.retry_after_s is None
    found = [item for item in report.findings if item.check == "apply"]
    assert len(found) == 1
    assert found[0].remedy
    assert found[0].evidence["code"] == error.code
    assert (await run_pass(azure)).healthy


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("ScopeLocked", "step_locked"),
        ("RequestDisallowedByPolicy", "step_against_policy"),
        ("LinkedAuthorizationFailed", "step_linked_denied"),
        ("LinkedAccessCheckFailed", "step_linked_denied"),
        ("ReadOnlyDisabledSubscription", "step_subscription_disabled"),
        ("SubscriptionNotFound", "step_subscription_gone"),
        ("SubscriptionNotRegistered", "step_provider_not_registered"),
        ("MissingSubscriptionRegistration", "step_provider_not_registered"),
        ("RoleAssignmentLimitExceeded", "step_role_limit"),
        ("TagCountLimitExceeded", "step_tag_limit"),
        ("QuotaExceeded", "step_quota"),
        ("Odd", "step_refused"),
    ],
)
async def test_refusal_has_its_own_cause_when_its_code_says_what_is_in_the_way(
    code: str, cause: str
) -> None:
    report = await run_pass(_failing("grant role", RejectedError("no", code=code)))
    [found] = [item for item in report.findings if item.check == "apply"]
    assert found.cause == cause
    assert found.evidence["code"] == code


@pytest.mark.parametrize("step", STEPS)
async def test_state_is_the_same_when_a_write_took_effect_and_its_answer_was_lost(
    step: str,
) -> None:
    azure = _world_for(step)
    azure.lost[step] = UnavailableError("no answer")
    report = await run_pass(azure)
    assert not report.healthy
    assert (await run_pass(azure)).healthy
    assert len(azure.assignments) == 1
    clean = _world_for(step)
    await run_pass(clean)
    assert azure.accounts == clean.accounts
    assert azure.assignments == clean.assignments


async def test_later_steps_wait_when_the_identity_is_deferred() -> None:
    azure = _failing("enable identity", NotReadyError("still going on"))
    report = await run_pass(azure)
    assert [item.state for item in report.steps] == ["deferred", "deferred", "deferred"]
    assert azure.writes == ["enable identity"]


async def test_record_is_written_when_only_the_role_must_wait() -> None:
    azure = _failing("grant role", NotReadyError("no", code="PrincipalNotFound"))
    report = await run_pass(azure)
    assert [item.state for item in report.steps] == ["done", "deferred", "done"]


async def test_role_waits_when_the_new_identity_has_no_principal_yet() -> None:
    azure = world(principal_late=True)
    report = await run_pass(azure)
    assert [item.state for item in report.steps] == ["done", "deferred", "done"]
    assert "grant role" not in azure.writes
    assert report.retry_after_s == RETRY_AFTER_S[0]


async def test_pause_grows_with_the_attempts_and_ends() -> None:
    pauses = []
    for attempt in range(len(RETRY_AFTER_S) + 1):
        azure = _failing("grant role", NotReadyError("not yet"))
        pauses.append((await run_pass(azure, attempt=attempt)).retry_after_s)
    assert pauses == [*RETRY_AFTER_S, None]
    assert list(RETRY_AFTER_S) == sorted(RETRY_AFTER_S)
    assert sum(RETRY_AFTER_S) > 1800


async def test_pause_is_the_services_when_that_is_longer() -> None:
    azure = _failing("grant role", ThrottledError("a pause", retry_after=400.0))
    assert (await run_pass(azure)).retry_after_s == 400.0


async def test_report_says_deleted_when_the_account_goes_in_mid_apply() -> None:
    azure = world()
    azure.lost["enable identity"] = MissingError("gone")
    first = await run_pass(azure)
    assert "step_target_gone" in causes(first, "blocked")
    del azure.accounts[account_id().key]
    report = await run_pass(azure)
    assert report.deleted
    assert not report.in_scope
    assert report.retry_after_s is None
