"""What Azure would raise for each write, where it goes, and how delivery keeps its promise."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dev.sandbox import tokens
from tests.dev.sandbox.stage import (
    SUBSCRIPTION,
    Client,
    Host,
    account_body,
    account_path,
    vault_path,
)

APP = "20000000-0000-4000-8000-000000000002"
TENANT = tokens.DEFAULT_TENANT
DAY = 86_400
OFFICER = "/x/b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


async def _settled(sandbox: Client) -> Any:
    return await sandbox.until(lambda state: state["pending"] == 0, "deliveries")


async def _secret(sandbox: Client, value: str = "v", **more: Any) -> Any:
    path = "vaults/team-vault/secrets/wandb-key"
    return await sandbox.control("PUT", path, {"value": value, **more})


async def test_account_event_has_azures_shape_when_an_account_is_written(
    sandbox: Client, running_host: Host
) -> None:
    bearer = f"Bearer {tokens.issue(TENANT, APP, 'https://management.azure.com')}"
    path = account_path("alpha").replace("resourceGroups", "resourcegroups")
    headers = {"Authorization": bearer, "x-ms-client-request-id": "req-1"}
    await sandbox.call("PUT", path, account_body("alpha"), **headers)
    await sandbox.call("PATCH", path, {"tags": {"a": "b"}}, **headers)
    await sandbox.call("DELETE", path, **headers)
    await running_host.wait_for(3)
    # Deliveries that are due together come in any order.
    by_method = {
        event["data"]["httpRequest"]["method"]: event
        for event in running_host.events("account_event")
    }
    put, patch, delete = (by_method[method] for method in ("PUT", "PATCH", "DELETE"))
    assert running_host.received[0][2]["aeg-event-type"] == "Notification"
    assert set(put) == {
        *("id", "topic", "subject", "eventType", "eventTime"),
        *("data", "dataVersion", "metadataVersion"),
    }
    assert (put["subject"], put["topic"]) == (path, f"/subscriptions/{SUBSCRIPTION}")
    assert put["eventTime"].endswith("0Z")
    assert len(put["eventTime"]) == len("2026-11-24T04:04:19.6298840Z")
    data = put["data"]
    assert (data["operationName"], data["status"]) == (
        "Microsoft.CognitiveServices/accounts/write",
        "Succeeded",
    )
    assert data["resourceProvider"] == "Microsoft.CognitiveServices"
    assert data["claims"]["appid"] == APP
    oid = tokens.object_id(TENANT, APP)
    assert data["claims"]["http://schemas.microsoft.com/identity/claims/objectidentifier"] == oid
    assert data["authorization"]["evidence"]["principalId"] == oid.replace("-", "")
    assert data["httpRequest"]["clientRequestId"] == "req-1"
    assert data["httpRequest"]["method"] == "PUT"
    assert patch["data"]["operationName"] == data["operationName"]
    assert delete["eventType"] == "Microsoft.Resources.ResourceDeleteSuccess"
    assert delete["data"]["operationName"] == "Microsoft.CognitiveServices/accounts/delete"


async def test_only_subscribed_operations_are_delivered_when_many_are_raised(
    sandbox: Client, running_host: Host
) -> None:
    await sandbox.call("PUT", vault_path("team-vault"), {"location": "x"})
    await sandbox.call("PUT", account_path("alpha"), account_body("alpha"))
    await sandbox.call("POST", account_path("alpha") + "/listKeys")
    name = "30000000-0000-4000-8000-000000000003"
    path = f"{vault_path('team-vault')}/providers/Microsoft.Authorization/roleAssignments/{name}"
    properties = {"roleDefinitionId": OFFICER, "principalId": name}
    await sandbox.call("PUT", path, {"properties": properties})
    await sandbox.call("DELETE", path)
    await sandbox.call("DELETE", path)
    assert (await _settled(sandbox))["delivered"] == {"account_event": 2}
    operations = [event["data"]["operationName"] for event in running_host.events("account_event")]
    assert operations == [
        "Microsoft.CognitiveServices/accounts/write",
        "Microsoft.Authorization/roleAssignments/delete",
    ]


async def test_event_waits_for_completion_when_writes_are_slow(
    sandbox: Client, running_host: Host
) -> None:
    await sandbox.settings(lro_seconds=0.3)
    await sandbox.call("PUT", account_path("alpha"), account_body("alpha"))
    assert (await _settled(sandbox))["delivered"] == {}
    await running_host.wait_for(1)
    _, body, _ = await sandbox.call("GET", account_path("alpha"))
    assert body["properties"]["provisioningState"] == "Succeeded"


async def test_secret_event_follows_the_published_sample_when_a_version_is_made(
    sandbox: Client, running_host: Host
) -> None:
    made = await _secret(sandbox, "secret-value", expires=4_000_000_000, not_before="2026-01-01")
    await running_host.wait_for(1)
    (event,) = running_host.events("vault_event")
    assert event["eventType"] == "Microsoft.KeyVault.SecretNewVersionCreated"
    assert event["subject"] == "wandb-key"
    assert event["topic"] == vault_path("team-vault", group="sandbox-rg")
    assert event["data"] == {
        "Id": made["id"],
        "VaultName": "team-vault",
        "ObjectType": "Secret",
        "ObjectName ": "wandb-key",
        "Version": f" {made['version']}",
        "NBF": "1767225600",
        "EXP": "4000000000",
    }
    assert "secret-value" not in str(running_host.received)


async def test_secret_event_is_tidy_when_the_quirks_are_off(
    sandbox: Client, running_host: Host
) -> None:
    await sandbox.settings(sample_event_quirks=False)
    made = await _secret(sandbox)
    await running_host.wait_for(1)
    data = running_host.events("vault_event")[0]["data"]
    assert (data["ObjectName"], data["Version"]) == ("wandb-key", made["version"])
    assert data["EXP"] is None


async def test_expiry_events_come_at_once_when_their_time_has_passed(
    sandbox: Client, running_host: Host
) -> None:
    now = time.time()
    await _secret(sandbox, expires=now + 10 * DAY)
    await _secret(sandbox, expires=now - DAY)
    await _secret(sandbox, expires=now + 31 * DAY)
    await _secret(sandbox, expires=None)
    await _settled(sandbox)
    kinds = [event["eventType"] for event in running_host.events("vault_event")]
    # Those that are due at once and the next version's may overtake each other.
    assert sorted(kinds) == sorted(
        [
            f"Microsoft.KeyVault.Secret{kind}"
            for kind in (
                *("NewVersionCreated", "NearExpiry"),
                *("NewVersionCreated", "Expired"),
                *("NewVersionCreated", "NewVersionCreated"),
            )
        ]
    )


async def test_expiry_event_is_held_back_when_the_version_is_no_longer_current(
    sandbox: Client, running_host: Host
) -> None:
    await _secret(sandbox, "old", expires=time.time() + 1.2)
    await _secret(sandbox, "new")
    await asyncio.sleep(1.5)
    await _settled(sandbox)
    kinds = [event["eventType"].rsplit(".", 1)[1] for event in running_host.events("vault_event")]
    assert "SecretExpired" not in kinds


async def test_policy_event_is_raised_when_policies_or_the_model_change(
    sandbox: Client, running_host: Host
) -> None:
    path = vault_path("team-vault")
    await sandbox.call("PUT", path, {"location": "x"})
    await sandbox.call("PATCH", path, {"tags": {"a": "b"}})
    await sandbox.call("PATCH", path, {"properties": {"enableRbacAuthorization": False}})
    entry = {"tenantId": TENANT, "objectId": APP, "permissions": {"secrets": ["get"]}}
    body = {"properties": {"accessPolicies": [entry]}}
    await sandbox.call("PUT", f"{path}/accessPolicies/add", body)
    await sandbox.call("PUT", f"{path}/accessPolicies/add", body)
    await _settled(sandbox)
    events = running_host.events("vault_event")
    assert len(events) == 2
    assert {event["eventType"] for event in events} == {
        "Microsoft.KeyVault.VaultAccessPolicyChanged"
    }
    assert events[0]["data"]["ObjectName"] is None


async def test_event_is_delivered_once_the_host_is_up_when_it_was_down(
    sandbox: Client, host: Host, start_host: Callable[[], Awaitable[None]]
) -> None:
    await _secret(sandbox)
    await asyncio.sleep(0.5)
    assert (await sandbox.control("GET", "deliveries"))["pending"] == 1
    await start_host()
    await host.wait_for(1)
    assert (await _settled(sandbox))["delivered"] == {"vault_event": 1}


async def test_event_is_retried_when_the_host_fails_and_dropped_when_it_says_400(
    sandbox: Client, running_host: Host
) -> None:
    running_host.statuses = [500, 404, 302]
    await _secret(sandbox)
    assert (await _settled(sandbox))["delivered"] == {"vault_event": 1}
    assert len(running_host.received) == 4
    running_host.statuses = [400]
    await _secret(sandbox)
    state = await _settled(sandbox)
    assert state["dead_letters"][0]["reason"] == "status 400"
    assert len(running_host.received) == 5


async def test_other_events_go_on_when_one_delivery_is_stuck(
    sandbox: Client, running_host: Host
) -> None:
    running_host.delays = [2.0]
    await _secret(sandbox)
    await running_host.wait_for(1)
    for _ in range(20):
        await _secret(sandbox)
    started = time.monotonic()
    await sandbox.until(lambda state: state["delivered"] == {"vault_event": 20}, "deliveries")
    assert time.monotonic() - started < 1.5


async def test_event_comes_several_times_when_copies_are_asked_for(
    sandbox: Client, running_host: Host
) -> None:
    await sandbox.settings(event_copies=3)
    await _secret(sandbox)
    await running_host.wait_for(3)
    assert len({event["id"] for event in running_host.events("vault_event")}) == 1


async def test_pending_events_are_dropped_when_the_world_is_reset(
    sandbox: Client, host: Host, start_host: Callable[[], Awaitable[None]]
) -> None:
    await _secret(sandbox)
    await sandbox.control("POST", "reset")
    await start_host()
    await asyncio.sleep(1.0)
    assert host.received == []
    assert (await sandbox.control("GET", "deliveries"))["pending"] == 0


async def test_given_events_go_out_as_they_are_when_posted(
    sandbox: Client, running_host: Host
) -> None:
    grid, cloud = {"id": "1", "eventType": "x"}, {"id": "2", "specversion": "1.0"}
    running_host.statuses = [200, 202, 400]
    body = {"function": "any_function", "events": [grid, cloud, "text"]}
    assert await sandbox.control("POST", "events", body) == [
        {"status": 200},
        {"status": 202},
        {"status": 400},
    ]
    assert [item[1] for item in running_host.received] == [[grid], cloud, ["text"]]
    kinds = [item[2]["Content-Type"].split(";")[0] for item in running_host.received]
    assert kinds == ["application/json", "application/cloudevents+json", "application/json"]


async def test_first_status_is_answered_and_retried_later_when_the_host_fails(
    sandbox: Client, running_host: Host
) -> None:
    running_host.statuses = [500]
    body = {"function": "vault_event", "events": [{"id": "1"}]}
    assert await sandbox.control("POST", "events", body) == [{"status": 500}]
    assert (await _settled(sandbox))["delivered"] == {"vault_event": 1}


async def test_posting_waits_for_the_host_when_it_is_still_starting(
    sandbox: Client, host: Host, start_host: Callable[[], Awaitable[None]]
) -> None:
    body = {"function": "vault_event", "events": [{"id": "1"}]}
    posting = asyncio.create_task(sandbox.control("POST", "events", body))
    await asyncio.sleep(0.5)
    assert not posting.done()
    await start_host()
    assert await posting == [{"status": 200}]
    assert len(host.received) == 1
