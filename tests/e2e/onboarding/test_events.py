"""Events lead to the right state, whatever is sent, and cost what they must and no more."""

from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.e2e.onboarding.life import (
    events,
    in_vault,
    job,
    jobs_of,
    looks_at,
    onboard,
    quiet,
    role_writes,
    run_when,
    told,
)
from tests.e2e.onboarding.place import Place, account_id, causes, steps, vault_id
from tests.e2e.onboarding.scene import write_event
from tests.e2e.onboarding.scenes import MAIN, TENANT, open_place

pytestmark = [
    pytest.mark.stack,
    pytest.mark.sandbox_only,
    pytest.mark.asyncio(loop_scope="module"),
]

VAULTS = ("kv-e2e-shared", "kv-e2e-deleted", "kv-e2e-policy", "kv-e2e-dry")
TOPIC = "https://people.swedencentral-1.eventgrid.azure.net/api/events"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with open_place(
        tmp_path_factory.mktemp("run"),
        ALLOWED_VAULTS=",".join((MAIN, *VAULTS)),
        NOTIFY_TOPIC_ENDPOINT=TOPIC,
        RELAY_SCHEDULE="*/1 * * * * *",
    ) as opened:
        for vault in VAULTS:
            await opened.make_vault(
                vault, tenantId=TENANT, enableRbacAuthorization=vault != "kv-e2e-policy"
            )
            await opened.put_secret(vault)
        yield opened


async def test_one_create_is_one_onboarding_when_it_is_told_three_times(place: Place) -> None:
    name = "acc-events-create"
    roles = await role_writes(place)
    await place.make_account(name, tags={})
    own = account_id(name)
    deployment = f"{own.split('/providers')[0]}/providers/Microsoft.Resources/deployments/template"
    shouted = own.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/")
    await place.event(
        "account_event",
        write_event(own, resourceUri=f"{deployment}/operations/1", httpRequest={}),
        write_event(shouted),
        write_event(own.replace("resourceGroups", "resourcegroups")),
    )
    await place.entry_when(name, lambda entry: bool(entry["healthy"]))
    await quiet(place)
    assert await place.writes(name) == ["PATCH account 200"]
    assert await role_writes(place) == roles + 1
    accounts = [item["id"].lower() for item in (await place.status())["accounts"]]
    assert accounts.count(own.lower()) == 1


async def test_own_writes_cost_at_most_one_more_look_when_an_account_is_taken_in(
    place: Place,
) -> None:
    name = "acc-events-own"
    await onboard(place, name)
    await quiet(place)
    # One look for the create itself; the test's own reads do not go through the app's host path.
    assert await looks_at(place, name) <= 2
    made = await place.writes(name)
    looks = await looks_at(place, name)
    # The same writes told by somebody who says nothing about who wrote.
    await place.event("account_event", write_event(account_id(name), claims=None))
    await quiet(place)
    assert await looks_at(place, name) == looks + 1
    assert await place.writes(name) == made


@pytest.mark.parametrize("kind", ["CreatedOrUpdated", "Deleted"])
async def test_resource_notification_is_a_hint_like_any_other(place: Place, kind: str) -> None:
    name = f"acc-events-arn-{kind.lower()}"
    await onboard(place, name)
    await quiet(place)
    looks = await looks_at(place, name)
    event = {
        "id": str(uuid4()),
        "source": "/subscriptions/00000000-0000-0000-0000-000000000001",
        "subject": account_id(name),
        "type": f"Microsoft.ResourceNotifications.Resources.{kind}",
        "time": "2026-11-24T12:00:00Z",
        "specversion": "1.0",
        "data": {
            "resourceInfo": {
                "id": account_id(name),
                "name": name,
                "type": "Microsoft.CognitiveServices/accounts",
                "location": "swedencentral",
                "properties": {"provisioningState": "Succeeded"},
            },
            "apiVersion": "2025-06-01",
            "operationalInfo": {"resourceEventTime": "2026-11-24T12:00:00Z"},
        },
    }
    await place.event("account_event", event)
    await quiet(place)
    # The account is there, whatever the event says.
    assert await looks_at(place, name) == looks + 1
    assert place.entries[name]["healthy"]


async def test_entry_and_open_runs_are_closed_when_the_account_is_deleted(place: Place) -> None:
    name, job_id, done = "acc-events-deleted", "ftjob-open", "ftjob-over"
    await onboard(place, name)
    path = f"accounts/{name}/jobs"
    await place.control(
        "PUT", f"{path}/{job_id}", {"job": job(job_id, "running"), "events": events(job_id, 5)}
    )
    over = job(done, "succeeded", finished_at=1764000300, fine_tuned_model="m.ft-1")
    await place.control("PUT", f"{path}/{done}", {"job": over, "events": events(done, 3)})
    await run_when(place, job_id, lambda run: len(run.get("history", ())) == 5)
    await run_when(place, done, lambda run: run.get("state") == "finished")

    await place.arm("DELETE", account_id(name))
    run = await run_when(place, job_id, lambda run: run["state"] == "failed")
    assert run["exitcode"] == 1
    assert "account was deleted" in run["output"][-1]
    assert [row["step"] for row in run["history"]] == [1, 2, 3, 4, 5]
    assert (await run_when(place, done, bool))["state"] == "finished"
    shown = await jobs_of(place, job_id)
    assert shown["state"] == "detached"
    assert "account was deleted" in shown["error"]
    assert shown["remedy"]
    assert name not in [item["name"] for item in (await place.status())["accounts"]]

    # Looked at again, nothing is said twice.
    await place.run_function("drift_timer")
    await quiet(place)
    posts = (await run_when(place, job_id, bool))["posts"]
    await place.run_function("drift_timer")
    await quiet(place)
    assert (await run_when(place, job_id, bool))["posts"] == posts

    # It comes back, as an account does that is recovered: the job goes on in the same run.
    await onboard(place, name)
    await place.control(
        "PUT", f"{path}/{job_id}", {"job": job(job_id, "running"), "events": events(job_id, 8)}
    )
    run = await run_when(place, job_id, lambda run: len(run["history"]) == 8)
    assert [row["step"] for row in run["history"]] == list(range(1, 9))
    ended = job(job_id, "succeeded", finished_at=1764000900, fine_tuned_model="m.ft-2")
    await place.control("PUT", f"{path}/{job_id}", {"job": ended, "events": events(job_id, 8)})
    run = await run_when(place, job_id, lambda run: run["state"] == "finished")
    assert run["exitcode"] == 0
    assert (await jobs_of(place, job_id))["error"] == ""


async def test_open_run_is_ended_when_its_account_opts_out_and_goes_on_when_it_is_back(
    place: Place,
) -> None:
    name, job_id = "acc-events-off", "ftjob-off"
    await onboard(place, name)
    path = f"accounts/{name}/jobs/{job_id}"
    running = job(job_id, "running")
    await place.control("PUT", path, {"job": running, "events": events(job_id, 4)})
    await run_when(place, job_id, lambda run: len(run.get("history", ())) == 4)

    await place.arm("PATCH", account_id(name), {"tags": {"wandb-integration": "off"}})
    run = await run_when(place, job_id, lambda run: run["state"] == "failed", 60)
    shown = await jobs_of(place, job_id)
    assert shown["state"] == "detached"
    assert shown["error"]
    assert shown["error"] in run["output"][-1]
    # Nothing that is published from now on is relayed.
    await place.control("PUT", path, {"job": running, "events": events(job_id, 6)})
    await place.run_function("relay_timer")
    await quiet(place)
    assert len((await run_when(place, job_id, bool))["history"]) == 4

    await place.arm("PATCH", account_id(name), {"tags": {"wandb-integration": "on"}})
    run = await run_when(place, job_id, lambda run: len(run["history"]) == 6, 60)
    assert (run["state"], (await jobs_of(place, job_id))["error"]) == ("running", "")


async def test_run_is_ended_later_when_wandb_is_down_as_the_account_goes(place: Place) -> None:
    name, job_id = "acc-events-later", "ftjob-later"
    await onboard(place, name)
    await place.control(
        "PUT",
        f"accounts/{name}/jobs/{job_id}",
        {"job": job(job_id, "running"), "events": events(job_id, 4)},
    )
    await run_when(place, job_id, lambda run: len(run.get("history", ())) == 4)
    rule = {"service": "wandb", "path_contains": job_id, "name": name, "action": {"status": 500}}
    await place.control("POST", "faults", rule)
    await place.arm("DELETE", account_id(name))

    async def refused() -> int:
        return sum(item[0] == "wandb" and item[3] == 500 for item in await place.requests())

    await place.until(refused, bool, 30)
    await place.control("DELETE", f"faults/{name}")
    run = await run_when(place, job_id, lambda run: run["state"] == "failed", 60)
    assert "account was deleted" in run["output"][-1]
    assert len(run["history"]) == 4


async def test_only_the_account_that_lost_its_role_is_looked_at(place: Place) -> None:
    vault = "kv-e2e-shared"
    names = [f"acc-events-role-{number}" for number in range(3)]
    scenes = [await onboard(place, name, vault) for name in names]
    await quiet(place)
    before = [await looks_at(place, name) for name in names]
    principal = await scenes[1].principal()
    before[1] += 1
    base = f"{vault_id(vault)}/providers/Microsoft.Authorization/roleAssignments"
    for item in (await place.arm("GET", base))["value"]:
        if item["properties"]["principalId"] == principal:
            await place.arm("DELETE", item["id"])
    await place.entry_when(names[1], lambda entry: steps(entry) == {"grant_role": "done"})
    await quiet(place)
    assert [await looks_at(place, name) for name in names] == [before[0], before[1] + 1, before[2]]


async def test_policies_of_many_accounts_raise_no_storm_of_looks(place: Place) -> None:
    vault, names = "kv-e2e-policy", [f"acc-events-policy-{number}" for number in range(8)]
    for name in names:
        await place.make_account(name, tags=in_vault(vault))
    for name in names:
        await place.entry_when(name, lambda entry: bool(entry["healthy"]))
    await quiet(place)
    looks = [await looks_at(place, name) for name in names]
    assert max(looks) <= 2, looks


async def test_role_is_given_again_by_drift_when_the_vault_was_recovered(place: Place) -> None:
    vault, name = "kv-e2e-deleted", "acc-events-recovered"
    await onboard(place, name, vault)
    await place.arm("DELETE", vault_id(vault))
    await place.run_function("drift_timer")
    await place.entry_when(name, lambda entry: "vault_soft_deleted" in causes(entry, "blocked"))
    await place.make_vault(vault, createMode="recover")
    await place.run_function("drift_timer")
    entry = await place.entry_when(name, lambda entry: bool(entry["healthy"]))
    assert steps(entry) == {"grant_role": "done"}


async def test_portal_step_is_cleared_when_a_job_carries_the_integration(place: Place) -> None:
    name, job_id = "acc-events-native", "ftjob-native"
    await onboard(place, name)
    assert causes(place.entries[name], "manual") == ["portal_update"]
    native = {"type": "wandb", "wandb": {"project": "theirs"}}
    await place.control(
        "PUT",
        f"accounts/{name}/jobs/{job_id}",
        {"job": job(job_id, "running", integrations=[native]), "events": []},
    )
    await place.until(lambda: place.status(), lambda found: job_id in str(found["jobs"]), 30)
    await place.run_function("drift_timer")
    entry = await place.entry_when(name, lambda entry: causes(entry, "manual") == [])
    assert "portal_done" in causes(entry, "ok")


async def test_people_are_told_once_per_change(place: Place) -> None:
    name = "acc-events-told"
    scene = await onboard(place, name)
    assert await told(place, name) == ["WandbRelay.AccountHealthy"]
    await place.resync(name)
    assert await told(place, name) == ["WandbRelay.AccountHealthy"]
    refusal = {"error": {"code": "RequestDisallowedByPolicy", "message": "no"}}
    await scene.fault("PATCH", account_id(name), status=403, body=refusal)
    await scene.tag(wandb_secret_name=None)
    await place.entry_when(name, lambda entry: steps(entry) == {"write_record": "failed"})
    bad = ["WandbRelay.AccountUnhealthy", "WandbRelay.StepFailed"]
    assert sorted((await told(place, name))[1:]) == bad
    await place.resync(name)
    assert sorted((await told(place, name))[1:]) == bad
    await scene.end_faults()
    await place.resync(name)
    assert (await told(place, name))[3:] == ["WandbRelay.AccountHealthy"]
    ids = [item["event"]["id"] for item in await place.control("GET", "notices")]
    assert len(ids) == len(set(ids))


async def test_pause_at_azure_is_no_news(place: Place) -> None:
    name = "acc-events-paused"
    scene = await onboard(place, name)
    await scene.fault("GET", account_id(name), status=503, body={})
    found = await place.resync(name)
    assert causes(found, "blocked") == ["account_unavailable"]
    await scene.end_faults()
    assert (await place.resync(name))["healthy"]
    assert await told(place, name) == ["WandbRelay.AccountHealthy"]


async def test_key_is_unknown_and_not_bad_when_wandb_does_not_answer(place: Place) -> None:
    name = "acc-events-unknown"
    await onboard(place, name)
    rule = {"service": "wandb", "path_contains": "/graphql", "name": name}
    await place.control("POST", "faults", rule | {"action": {"status": 503}})
    await place.put_secret(MAIN)
    found = await place.resync(name)
    await place.control("DELETE", f"faults/{name}")
    assert "key_unknown" in causes(found, "warning")
    assert found["healthy"], "the version in use still works"
    assert causes(await place.resync(name), "warning") == []


async def test_dry_run_shows_the_plan_and_writes_nothing(place: Place) -> None:
    name, vault = "acc-events-dry", "kv-e2e-dry"
    await onboard(place, name, vault)
    # Nobody tells of this: the vault is back without its role assignments.
    await place.arm("DELETE", vault_id(vault))
    await place.make_vault(vault, createMode="recover")
    await quiet(place)
    before = Counter(await place.requests())
    found = await place.resync(name, mode="check")
    assert [item["kind"] for item in found["plan"]] == ["grant_role"]
    assert steps(found) == {"grant_role": "skipped"}
    assert found["healthy"] is False
    new = Counter(await place.requests()) - before
    services = ("arm", "vault", "openai", "eventgrid")
    assert [item for item in new if item[0] in services], "nothing was looked at"
    written = [item for item in new if item[0] in services and item[1] != "GET"]
    # People may be told that the account is not healthy; that is no write to what is theirs.
    assert [item for item in written if item[0] != "eventgrid"] == []
    assert steps(await place.resync(name)) == {"grant_role": "done"}
    assert (await place.resync(name, mode="check"))["plan"] == []
