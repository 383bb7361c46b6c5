"""Azure's open points (docs/deploy.md, "Not yet proved against Azure"), under the names there."""

import asyncio
import re
import uuid
from pathlib import Path

import pytest

from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import MissingError, RejectedError
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.secret import secret_at
from tests.live.conftest import Verdict
from tests.live.places_azure import ACCOUNTS_API, Arm
from tests.live.settings import Places, may_write, need, text

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"


async def test_deployment_is_what_the_templates_say(arm: Arm, verdict: Verdict) -> None:
    need("LIVE_GROUP_ID")
    status, shown = await arm.call("GET", f"{text('LIVE_GROUP_ID')}/resources", "2021-04-01")
    assert status == 200
    kinds = {item["type"].lower() for item in shown["value"]}
    verdict(f"{len(shown['value'])} resources")
    assert {"microsoft.web/sites", "microsoft.storage/storageaccounts"} <= kinds
    assert "microsoft.managedidentity/userassignedidentities" in kinds


async def test_only_the_one_role_can_be_assigned(
    arm: Arm, settings: Places, verdict: Verdict
) -> None:
    may_write()
    need("LIVE_APP_SIGNED_IN")  # a person who may assign everything would prove nothing
    _, account = await arm.call("GET", settings.account, ACCOUNTS_API)
    principal = account["identity"]["principalId"]
    path = f"{account['id']}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    role = f"/subscriptions/{account['id'].split('/')[2]}/providers/Microsoft.Authorization"
    body = {
        "properties": {
            "roleDefinitionId": f"{role}/roleDefinitions/{READER}",
            "principalId": principal,
            "principalType": "ServicePrincipal",
        }
    }
    status, answer = await arm.call("PUT", path, "2022-04-01", body)
    if status in (200, 201):
        await arm.call("DELETE", path, "2022-04-01")
    verdict(f"assigning Reader was answered {status}")
    assert status == 403, answer


async def test_event_subscriptions_are_healthy(arm: Arm, verdict: Verdict) -> None:
    need("LIVE_GROUP_ID")
    group = f"{text('LIVE_GROUP_ID')}/providers/Microsoft.EventGrid/systemTopics"
    status, topics = await arm.call("GET", group, "2025-02-15")
    assert status == 200
    states: dict[str, str] = {}
    for topic in topics["value"]:
        path = f"{topic['id']}/eventSubscriptions"
        _, shown = await arm.call("GET", path, "2025-02-15")
        for item in shown["value"]:
            properties = item["properties"]
            states[item["name"]] = properties["provisioningState"]
            assert properties["destination"]["endpointType"] == "AzureFunction"
    verdict(str(states))
    assert states
    assert set(states.values()) == {"Succeeded"}


async def test_identity_is_switched_on(
    transport: Transport, arm: Arm, settings: Places, verdict: Verdict
) -> None:
    may_write()
    accounts = Accounts(transport)
    before = await accounts.read(parse_account_id(settings.account))
    after = await accounts.update_identity(before, {})
    verdict("it was on" if before.system_identity else "it was off and is off again")
    try:
        assert after.system_identity
        assert set(before.user_identities) == set(after.user_identities)
    finally:
        if not before.system_identity:
            kind = "UserAssigned" if before.user_identities else "None"
            await arm.call("PATCH", settings.account, ACCOUNTS_API, {"identity": {"type": kind}})


async def test_jobs_are_read_with_the_role(
    transport: Transport, settings: Places, verdict: Verdict
) -> None:
    accounts = Accounts(transport)
    account = await accounts.read(parse_account_id(settings.account))
    scope = text("OPENAI_TOKEN_SCOPE") or "https://cognitiveservices.azure.com/.default"
    jobs = Jobs(transport, scope)
    relayed = RelayAccount(
        id=account.id,
        name=account.id.name,
        endpoint=account.endpoint,
        region=account.region,
        subscription=account.id.subscription,
        entity="",
        project="",
        secret=secret_at("unused.vault.azure.net", "unused"),
    )
    listed = await jobs.list_jobs(relayed, None, 100)
    verdict(f"{len(listed.items)} jobs listed")
    for raw in listed.items[:3]:
        events = await jobs.list_events(relayed, raw["id"], None, 20)
        times = [event["created_at"] for event in events.items]
        order = "newest first" if times == sorted(times, reverse=True) else "in another order"
        verdict(f"{raw['id']} {raw['status']}: events {order}")
        try:
            await jobs.list_checkpoints(relayed, raw["id"], None, 10)
        except (MissingError, RejectedError) as error:
            verdict(f"no checkpoints: {error.code}")
        for file_id in (raw.get("result_files") or [])[:1]:
            head = b"".join([chunk async for chunk in jobs.read_file(relayed, file_id)])[:40]
            verdict("result file is plain CSV" if b"," in head else "result file is base64")


async def test_ticks_go_on_without_anybody_calling(arm: Arm, verdict: Verdict) -> None:
    need("LIVE_LOG_WORKSPACE_ID")
    query = "AppRequests | where Name == 'relay_timer' and TimeGenerated > ago(30m) | count"
    rows = await arm.logs(text("LIVE_LOG_WORKSPACE_ID"), query)
    verdict(f"{rows[0][0]} ticks in half an hour")
    assert rows[0][0] >= 20


async def test_account_event_arrives(
    transport: Transport, arm: Arm, settings: Places, verdict: Verdict
) -> None:
    may_write()
    need("LIVE_LOG_WORKSPACE_ID")
    accounts = Accounts(transport)
    before = await accounts.read(parse_account_id(settings.account))
    body = {"tags": {**before.tags, "wandb-live-test": uuid.uuid4().hex[:8]}}
    try:
        await arm.call("PATCH", settings.account, ACCOUNTS_API, body)
        query = "AppRequests | where Name == 'account_event' and TimeGenerated > ago(10m)"
        rows = await arm.logged(text("LIVE_LOG_WORKSPACE_ID"), query)
        verdict(f"{len(rows)} deliveries logged")
        assert rows
    finally:
        await arm.call("PATCH", settings.account, ACCOUNTS_API, {"tags": dict(before.tags)})


async def test_poison_message_is_logged_as_expected(
    transport: Transport, arm: Arm, verdict: Verdict
) -> None:
    may_write()
    need("LIVE_QUEUE_URL", "LIVE_LOG_WORKSPACE_ID")
    from azure.storage.queue import TextBase64EncodePolicy
    from azure.storage.queue.aio import QueueClient

    queue = QueueClient(
        text("LIVE_QUEUE_URL"),
        "relay-jobs",
        credential=transport.credential(),
        message_encode_policy=TextBase64EncodePolicy(),
    )
    await queue.send_message("no message of this app", time_to_live=3600)
    await queue.close()
    source = (ROOT / "infra/modules/alerts.bicep").read_text()
    (query,) = re.findall(r"var poisonQuery = '''\n(.+?)'''", source, re.DOTALL)
    rows = await arm.logged(text("LIVE_LOG_WORKSPACE_ID"), query, minutes=15)
    verdict(f"{len(rows)} rows for the alert's own query; the message lies in relay-jobs-poison")
    assert rows


async def test_relay_reaches_wandb(transport: Transport, verdict: Verdict) -> None:
    need("LIVE_APP_URL")
    headers = {"x-functions-key": text("LIVE_APP_KEY")}
    url = f"{text('LIVE_APP_URL').rstrip('/')}/api/status"
    for _ in range(12):
        async with transport.session().get(url, headers=headers) as answer:
            assert answer.status == 200, f"the app answered {answer.status}"
            shown = await answer.json()
        if keys := [item for item in shown["keys"] if item["accepted_at"]]:
            break
        await asyncio.sleep(5)
    relayed = sum(job["values"] for job in shown["jobs"])
    verdict(f"{len(keys)} keys accepted by W&B, {relayed} values relayed")
    assert keys
