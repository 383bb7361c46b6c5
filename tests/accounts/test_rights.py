"""Rights on the vault: a fresh role may not be in effect yet, and what is too much is taken back."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from finetune_wandb.model.accounts.vault import (
    ROLE_IDS,
    AccessPolicy,
    RoleAssignment,
    assignment_name,
)
from finetune_wandb.model.errors import DeniedError, RejectedError
from finetune_wandb.model.settings import OFFICER, USER
from tests.accounts.stage import causes, run_pass
from tests.fakes import (
    NOW,
    OWN_PRINCIPAL,
    PRINCIPAL,
    VAULT,
    VAULT_ID,
    World,
    settings,
    world,
)

SECRET_SCOPE = f"{VAULT_ID}/secrets/wandb-api-key"
FORBIDDEN = DeniedError("Key Vault answered 403", code="ForbiddenByRbac")
NO_ROLE = DeniedError("Resource Manager answered 403", code="AuthorizationFailed")
LATER = NOW + timedelta(minutes=30)


def own_role(made_at: datetime | None) -> RoleAssignment:
    """Return the role that a deployment gave the app's own identity."""
    role_id = ROLE_IDS[USER]
    return RoleAssignment(
        f"{VAULT_ID}/ra/own", VAULT_ID.lower(), role_id, OWN_PRINCIPAL, "", made_at
    )


def held(azure: World) -> list[tuple[str, str]]:
    """Return (role, scope) of the account's assignments."""
    return sorted(
        (item.role, item.scope) for item in azure.assignments if item.principal_id == PRINCIPAL
    )


async def onboarded() -> World:
    """Return a world whose account was onboarded with the default settings, long ago."""
    azure = world()
    assert (await run_pass(azure)).healthy
    azure.calls.clear()
    azure.granted_at = NOW
    return azure


@pytest.mark.parametrize("minutes", [0, 29])
async def test_refusal_means_not_yet_when_the_apps_role_is_fresh(minutes: int) -> None:
    azure = await onboarded()
    azure.assignments.append(own_role(NOW - timedelta(minutes=minutes)))
    azure.errors["read secret"] = [FORBIDDEN]
    azure.records.clear()
    report = await run_pass(azure)
    assert causes(report, "blocked") == ["secret_role_spreading"]
    assert not report.settled
    assert report.retry_after_s == 15.0


@pytest.mark.parametrize(
    "made_at", [NOW - timedelta(minutes=30), NOW + timedelta(minutes=30), None]
)
async def test_refusal_is_a_no_when_the_apps_role_is_in_effect(made_at: datetime | None) -> None:
    azure = await onboarded()
    azure.assignments.append(own_role(made_at))
    azure.errors["read secret"] = [FORBIDDEN]
    azure.records.clear()
    report = await run_pass(azure)
    assert causes(report, "blocked") == ["secret_forbidden_by_rbac"]
    assert report.settled
    assert report.retry_after_s is None


async def test_refused_change_waits_with_growing_pauses_then_has_its_cause() -> None:
    azure = world()
    azure.assignments = [own_role(NOW)]
    now, pauses = NOW, []
    for attempt in range(20):
        azure.errors["grant role"] = [NO_ROLE]
        report = await run_pass(azure, now=now, attempt=attempt)
        if report.retry_after_s is None:
            break
        assert causes(report, "blocked") == ["access_missing", "step_waiting"]
        pauses.append(report.retry_after_s)
        now += timedelta(seconds=report.retry_after_s)
    assert causes(report, "blocked") == ["access_missing", "grant_role_denied"]
    assert pauses == sorted(pauses)
    assert timedelta(minutes=30) <= now - NOW < timedelta(hours=1)


NARROWER = [
    ({"VAULT_ROLE": USER}, USER, VAULT_ID, "access_stronger_than_asked"),
    ({"VAULT_ROLE_SCOPE": "secret"}, OFFICER, SECRET_SCOPE, "access_wider_than_asked"),
    (
        {"VAULT_ROLE": USER, "VAULT_ROLE_SCOPE": "secret"},
        USER,
        SECRET_SCOPE,
        "access_stronger_than_asked",
    ),
]


@pytest.mark.parametrize(("asked", "role", "scope", "cause"), NARROWER, ids=str)
async def test_right_is_taken_back_when_the_narrower_one_is_in_effect(
    asked: dict[str, str], role: str, scope: str, cause: str
) -> None:
    azure = await onboarded()
    using = settings(**asked)
    shown = await run_pass(azure, using=using, apply=False)
    assert [step.kind for step in shown.plan] == ["grant_role", "revoke_role"]
    assert (shown.healthy, azure.writes) == (True, [])
    report = await run_pass(azure, using=using)
    assert azure.writes == ["grant role"]
    assert held(azure) == sorted([(OFFICER, VAULT_ID.lower()), (role, scope.lower())])
    assert report.healthy
    assert causes(report) == sorted([cause, "portal_update", "step_waiting"])
    assert report.retry_after_s == 15.0
    report = await run_pass(azure, using=using, now=LATER)
    assert azure.writes == ["grant role", "revoke role"]
    assert held(azure) == [(role, scope.lower())]
    assert causes(report) == ["portal_update"]
    assert not (await run_pass(azure, using=using, now=LATER)).plan


async def test_right_stays_when_somebody_removed_the_narrower_one_meanwhile() -> None:
    azure = await onboarded()
    using = settings(VAULT_ROLE=USER)
    await run_pass(azure, using=using)
    ports = azure.ports()
    await run_pass(azure, using=using, ports=ports, now=LATER, apply=False)
    azure.assignments = [item for item in azure.assignments if item.role == OFFICER]
    await run_pass(azure, using=using, ports=ports, now=LATER)
    assert held(azure) == [(OFFICER, VAULT_ID.lower())]


async def test_account_keeps_access_when_settings_flip_or_two_apps_want_different_rights() -> None:
    """Each app gives back what the other takes; the secret can be read all the time."""
    azure = await onboarded()
    wider, narrower = settings(), settings(VAULT_ROLE=USER, VAULT_ROLE_SCOPE="secret")
    for minutes in range(0, 300, 7):
        azure.granted_at = now = NOW + timedelta(minutes=minutes)
        await run_pass(azure, using=narrower if minutes // 7 % 2 else wider, now=now)
        assert any(not item.is_fresh(now) for item in azure.assignments), minutes


async def test_right_of_another_name_is_never_taken_back() -> None:
    azure = await onboarded()
    ours = azure.assignments[0]
    azure.assignments = [replace(ours, id=f"{VAULT_ID}/ra/somebody-elses")]
    report = await run_pass(azure, using=settings(VAULT_ROLE=USER))
    assert report.plan == ()
    assert azure.writes == []
    assert causes(report, "warning") == ["access_stronger_than_asked"]


async def test_wider_right_of_others_is_enough_when_the_apps_own_is_taken_back() -> None:
    azure = await onboarded()
    group = VAULT_ID.split("/providers")[0]
    azure.assignments.append(
        RoleAssignment(f"{group}/ra/x", group.lower(), ROLE_IDS[USER], PRINCIPAL)
    )
    await run_pass(azure, using=settings(VAULT_ROLE=USER))
    assert azure.writes == ["revoke role"]
    assert held(azure) == [(USER, group.lower())]


async def test_name_is_of_all_three_parts() -> None:
    azure = await onboarded()
    made = azure.assignments[0]
    assert made.is_ours
    assert made.id.endswith(assignment_name(VAULT_ID, PRINCIPAL, ROLE_IDS[OFFICER]))
    for other in ({"scope": SECRET_SCOPE}, {"principal_id": "x"}, {"role_id": ROLE_IDS[USER]}):
        assert not replace(made, **other).is_ours


@pytest.mark.parametrize(
    ("error", "cause"),
    [(NO_ROLE, "revoke_role_denied"), (RejectedError("no", code="ScopeLocked"), "step_locked")],
)
async def test_account_works_when_a_right_cannot_be_taken_back(
    error: DeniedError | RejectedError, cause: str
) -> None:
    azure = await onboarded()
    azure.granted_at = None
    azure.errors["revoke role"] = [error]
    report = await run_pass(azure, using=settings(VAULT_ROLE=USER))
    assert report.healthy
    assert causes(report, "warning") == sorted(["access_stronger_than_asked", cause])


async def test_observed_account_is_shown_the_plan_and_nothing_is_taken_back() -> None:
    azure = await onboarded()
    report = await run_pass(azure, using=settings(VAULT_ROLE=USER, APPLY_MODE="observe"))
    assert [(item.step.kind, item.state) for item in report.steps] == [
        ("grant_role", "skipped"),
        ("revoke_role", "skipped"),
    ]
    assert report.healthy
    assert azure.writes == []


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"VAULT_ROLE": USER}, "access_policy_stronger"),
        ({"VAULT_ROLE_SCOPE": "secret"}, "access_policy_wider"),
    ],
)
async def test_policy_that_cannot_be_narrowed_is_a_finding(
    asked: dict[str, str], cause: str
) -> None:
    azure = await onboarded()
    policy = AccessPolicy(PRINCIPAL, frozenset({"get", "list", "set"}))
    vault = azure.vaults[VAULT.host]
    azure.vaults[VAULT.host] = replace(vault, rbac=False, policies=(policy,))
    report = await run_pass(azure, using=settings(**asked))
    assert causes(report, "warning") == [cause, "vault_policies"]
    assert (report.healthy, report.plan) == (True, ())


async def test_remedy_can_be_pasted_when_the_app_knows_its_own_id_and_the_vaults() -> None:
    azure = world()
    azure.errors["read secret"] = [FORBIDDEN]
    azure.errors["grant role"] = [NO_ROLE]
    remedies = {item.cause: item.remedy for item in (await run_pass(azure)).findings}
    for cause in ("secret_forbidden_by_rbac", "grant_role_denied"):
        assert f"--assignee-object-id {OWN_PRINCIPAL}" in remedies[cause]
        assert VAULT_ID in remedies[cause]
