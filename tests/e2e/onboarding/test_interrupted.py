"""Each step of a plan meets each class of failure, through the running host.

Shows for each: the finding, the plan, how each step ended, and that after the failure the
account becomes healthy with an empty plan, whether by an event or by the app's own retry.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.onboarding.place import account_id, vault_id
from tests.e2e.onboarding.scene import Scene
from tests.e2e.onboarding.scenes import Move, Played, Situation, playing, wanted

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

WAITING, FAILED = "deferred", "failed"
ON = {"identity": {"type": "SystemAssigned"}}
POLICIES = {"enableRbacAuthorization": False}


def refusal(status: int, code: str, **headers: str) -> dict[str, Any]:
    return {
        "status": status,
        "headers": headers,
        "body": {"error": {"code": code, "message": "played by the sandbox"}},
    }


FAILURES: dict[str, dict[str, Any]] = {
    "429 with a pause": refusal(429, "TooManyRequests", **{"Retry-After": "7"}),
    "500": refusal(500, "InternalServerError"),
    "503": refusal(503, "ServiceUnavailable"),
    "dropped before": {"drop": "before"},
    "dropped after": {"drop": "after"},
    "409": refusal(409, "AccountProvisioningStateInvalid"),
    "403": refusal(403, "AuthorizationFailed"),
    "404": refusal(404, "ResourceNotFound"),
    "policy": refusal(403, "RequestDisallowedByPolicy"),
    "400": refusal(400, "BadRequest"),
}
ENDS = {"403": "denied", "policy": "against policy", "404": "gone", "400": "refused"}


def failing(method: str, below: str, action: dict[str, Any]) -> Move:
    async def move(scene: Scene) -> None:
        path = below.format(account=account_id(scene.name), vault=vault_id(scene.vault))
        await scene.fault(method, path, **action)

    return move


STEPS: dict[str, dict[str, Any]] = {
    "enable_identity": {
        "call": ("PATCH", "{account}"),
        "blocked": ("access_missing", "identity_off"),
        "warnings": ("record_missing",),
        "plan": ("enable_identity", "grant_role", "write_record"),
        "others": {"grant_role": "needs", "write_record": "needs"},
        "repaired": ("PATCH account 200", "PUT role 201"),
        "lost": ("PUT role 201",),
    },
    "grant_role": {
        "call": ("PUT", "{vault}/providers/Microsoft.Authorization/roleAssignments"),
        "blocked": ("access_missing",),
        "warnings": (),
        "plan": ("enable_identity", "grant_role", "write_record"),
        "others": {"enable_identity": "done", "write_record": "done"},
        "repaired": ("PUT role 201",),
        "lost": (),
    },
    "add_access_policy": {
        "call": ("PUT", "{vault}/accessPolicies/add"),
        "vault": POLICIES,
        "blocked": ("access_policy_missing",),
        "warnings": ("vault_policies",),
        "remains": ("vault_policies",),
        "plan": ("enable_identity", "add_access_policy", "write_record"),
        "others": {"enable_identity": "done", "write_record": "done"},
        "repaired": ("PUT policy 200",),
        "lost": (),
    },
    "write_record": {
        "call": ("PATCH", "{account}"),
        "account": ON,
        "blocked": (),
        "warnings": ("record_missing",),
        "plan": ("grant_role", "write_record"),
        "others": {"grant_role": "done"},
        "repaired": ("PATCH account 200",),
        "lost": (),
    },
}


def interrupted(step: str, failure: str) -> Situation:
    row = STEPS[step]
    kind = ENDS.get(failure, "")
    finding = {
        "denied": f"{step}_denied",
        "gone": "step_target_gone",
        "against policy": "step_against_policy",
        "refused": "step_refused",
        "": "step_waiting",
    }[kind]
    ended = FAILED if kind else WAITING
    needing = WAITING if ended == WAITING else "skipped"
    return Situation(
        f"{step}: {failure}",
        before=failing(*row["call"], FAILURES[failure]),
        account=row.get("account", {}),
        vault=row.get("vault", {}),
        blocked=(*row["blocked"], finding),
        warnings=row["warnings"],
        plan=row["plan"],
        steps={step: ended}
        | {name: needing if end == "needs" else end for name, end in row["others"].items()},
        repaired=row["lost" if failure == "dropped after" else "repaired"],
        remains=row.get("remains", ()),
    )


async def held_back(scene: Scene) -> None:
    """The first pass cannot begin before something else is so."""
    await scene.fault("GET", account_id(scene.name), delay_s=3)


async def slow_from_now_on(scene: Scene) -> None:
    await scene.until_hit()
    await scene.pace(lro_seconds=24)


async def quick(scene: Scene) -> None:
    await scene.pace(lro_seconds=0)


async def unknown_principal(scene: Scene) -> None:
    await scene.pace(principal_replication_s=8)


async def late_principal(scene: Scene) -> None:
    await scene.pace(identity_delay_s=8)


def slowed(step: str) -> Move:
    """The step's call takes a moment."""
    return failing(*STEPS[step]["call"], {"delay_s": 3})


async def deleted_meanwhile(scene: Scene) -> None:
    await scene.until_hit()
    await scene.place.arm("DELETE", account_id(scene.name))


CASES = [
    *(interrupted(step, failure) for step in STEPS for failure in FAILURES),
    Situation(
        "grant_role: the principal is not known yet",
        before=unknown_principal,
        blocked=("access_missing", "step_waiting"),
        plan=("enable_identity", "grant_role", "write_record"),
        steps={"enable_identity": "done", "grant_role": WAITING, "write_record": "done"},
        writes=("PATCH account 200", "PUT role 400"),
        looks=False,
        repaired=("PUT role 201",),
    ),
    Situation(
        "grant_role: the principal is not made yet",
        before=late_principal,
        blocked=("access_missing", "identity_pending", "step_waiting"),
        plan=("enable_identity", "grant_role", "write_record"),
        steps={"enable_identity": "done", "grant_role": WAITING, "write_record": "done"},
        writes=("PATCH account 200",),
        looks=False,
        repaired=("PUT role 201",),
    ),
    Situation(
        "enable_identity: goes on for longer than a pass waits",
        before=held_back,
        meanwhile=slow_from_now_on,
        blocked=("access_missing", "identity_off", "step_waiting"),
        warnings=("record_missing",),
        plan=("enable_identity", "grant_role", "write_record"),
        steps=dict.fromkeys(("enable_identity", "grant_role", "write_record"), WAITING),
        writes=("PATCH account 202",),
        repair=quick,
        looks=False,
        repaired=("PUT role 201",),
    ),
    Situation(
        "write_record: goes on for longer than a pass waits",
        before=held_back,
        account=ON,
        meanwhile=slow_from_now_on,
        blocked=("step_waiting",),
        warnings=("record_missing",),
        plan=("grant_role", "write_record"),
        steps={"grant_role": "done", "write_record": WAITING},
        writes=("PATCH account 202", "PUT role 201"),
        repair=quick,
        looks=False,
        repaired=(),
    ),
    *(
        Situation(
            f"{step}: the account is deleted meanwhile",
            before=slowed(step),
            account=STEPS[step].get("account", {}),
            vault=STEPS[step].get("vault", {}),
            meanwhile=deleted_meanwhile,
            ends="closed",
        )
        for step in STEPS
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    async with playing(tmp_path_factory.mktemp("run"), wanted(CASES, request)) as started:
        yield started


@pytest.mark.parametrize("case", [case.name for case in CASES])
async def test_step_ends_as_listed_and_plan_is_empty_when_repaired(
    played: Played, case: str
) -> None:
    await played.result(case)
