"""What a deployment makes besides accounts and vaults, as the sandbox plays it."""

from tests.dev.sandbox.stage import SUBSCRIPTION, Client

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-deployed"
TOPIC = f"{GROUP}/providers/Microsoft.EventGrid/systemTopics/t1"
SITE = f"{GROUP}/providers/Microsoft.Web/sites/func-1"


async def test_group_keeps_its_region_and_takes_all_with_it(sandbox: Client) -> None:
    assert (await sandbox.call("GET", GROUP))[0] == 404
    body = {"location": "swedencentral", "tags": {"azd-env-name": "e"}}
    assert (await sandbox.call("PUT", GROUP, body))[0] == 201
    status, answer, _ = await sandbox.call("PUT", GROUP, body | {"location": "eastus2"})
    assert (status, answer["error"]["code"]) == (409, "InvalidResourceGroupLocation")
    await sandbox.call("PUT", TOPIC, body | {"properties": {"source": "/subscriptions/x"}})
    query = "?$filter=tagName eq 'azd-env-name' and tagValue eq 'e'"
    _, tagged, _ = await sandbox.call("GET", f"/subscriptions/{SUBSCRIPTION}/resources{query}")
    assert [one["id"] for one in tagged["value"]] == [TOPIC]
    assert (await sandbox.call("DELETE", GROUP))[0] == 202
    assert (await sandbox.call("GET", TOPIC))[0] == 404


async def test_second_topic_is_refused_when_the_source_has_one(sandbox: Client) -> None:
    body = {"location": "global", "properties": {"source": f"/subscriptions/{SUBSCRIPTION}"}}
    assert (await sandbox.call("PUT", TOPIC, body))[0] == 201
    status, answer, _ = await sandbox.call("PUT", f"{TOPIC}2", body)
    assert status == 400
    assert TOPIC in answer["error"]["message"]


async def test_event_subscription_goes_through_the_states_that_are_planned(
    sandbox: Client,
) -> None:
    await sandbox.call("PUT", TOPIC, {"properties": {"source": "/subscriptions/x"}})
    path = f"{TOPIC}/eventSubscriptions/one"
    endpoint = {"properties": {"resourceId": f"{SITE}/functions/f"}}
    body = {"properties": {"destination": endpoint}}
    status, answer, _ = await sandbox.call("PUT", path, body)
    assert status == 400
    assert "Destination endpoint not found" in answer["error"]["message"]
    await sandbox.call("PUT", SITE, {"location": "swedencentral"})
    await sandbox.call("PUT", f"{SITE}/functions/f", {})
    await sandbox.control("PUT", "event-subscriptions", {"states": [["Creating", "Failed"]]})
    states = [(await sandbox.call("PUT", path, body))[1]]
    states += [(await sandbox.call("GET", path))[1] for _ in range(2)]
    found = [state["properties"]["provisioningState"] for state in states]
    assert found == ["Creating", "Failed", "Failed"]
    _, again, _ = await sandbox.call("PUT", path, body)
    assert again["properties"]["provisioningState"] == "Creating"
    assert (await sandbox.call("GET", path))[1]["properties"]["provisioningState"] == "Succeeded"
