"""A re-sync by hand through the running app: what it repairs, what it shows, what it refuses."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from dev.tools.demo.cloud import Json, until
from tests.e2e.driver import PROJECT, Driver, job_object, metric_events, published_by, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]
OLD = 7 * 86_400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    # No tick comes: whatever is relayed here is relayed by a re-sync.
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *", "WEBSITE_AUTH_ENABLED": "True"}
    async with running(tmp_path_factory.mktemp("run"), host_env=quiet) as started:
        yield started


async def resync(driver: Driver, wait: float = 60, **body: Any) -> Json:
    code, answer = await driver.app("POST", f"/api/resync?wait={wait}", body)
    assert code == 200, answer
    assert answer["state"] == "done"
    return dict(answer)


def finished_job(job_id: str, steps: int) -> Json:
    now = int(time.time())
    job = job_object(job_id, "succeeded", created_at=now - OLD, finished_at=now - OLD + 600)
    events = metric_events(job_id, steps)
    for event in events:
        event["created_at"] += 60 - OLD
    return {"job": job, "events": events}


async def test_old_jobs_come_with_their_own_times_when_account_is_resynced(
    driver: Driver,
) -> None:
    account = await driver.onboard()
    body = finished_job("ftjob-old", 30)
    await driver.put_job(account, "ftjob-old", **body)
    answer = await resync(driver, scope="account", account=driver.account_id(account))
    assert (answer["total"], answer["done"], answer["failed"]) == (2, 2, 0)
    found = await driver.compared("ftjob-old", published_by(body))
    assert (found.missing, found.duplicate, found.unexpected) == ([], [], [])
    run = await driver.run_of("ftjob-old")
    assert run["state"] == "finished"
    times = [row["_timestamp"] for row in run["history"]]
    assert times == [event["created_at"] for event in body["events"]]


async def test_nothing_is_sent_twice_when_resynced_again(driver: Driver) -> None:
    account = await driver.onboard()
    await driver.put_job(account, "ftjob-twice", **finished_job("ftjob-twice", 10))
    wanted = {"scope": "account", "account": driver.account_id(account), "parts": ["jobs"]}
    await resync(driver, **wanted)
    posts = (await driver.run_of("ftjob-twice"))["posts"]
    await resync(driver, **wanted)
    assert (await driver.run_of("ftjob-twice"))["posts"] == posts


async def test_only_what_is_missing_is_added_when_forced(driver: Driver) -> None:
    account = await driver.onboard()
    body = finished_job("ftjob-more", 10)
    await driver.put_job(account, "ftjob-more", **body)
    wanted = {"scope": "job", "account": driver.account_id(account), "job": "ftjob-more"}
    await resync(driver, **wanted)
    later = finished_job("ftjob-more", 10)["events"]
    later[3]["data"]["full_valid_loss"] = 0.5  # a value that came late, for an old step
    later[3]["id"] = "ftevent-late"
    body["events"] = [*body["events"], later[3]]
    await driver.put_job(account, "ftjob-more", **body)
    await resync(driver, **wanted, force=True)
    await resync(driver, **wanted, force=True)
    found = await driver.compared("ftjob-more", published_by(body))
    assert (found.missing, found.duplicate, found.unexpected) == ([], [], [])
    assert (await driver.run_of("ftjob-more"))["state"] == "finished"


async def test_new_run_is_made_when_a_deleted_one_is_forced(driver: Driver) -> None:
    account = await driver.onboard()
    body = finished_job("ftjob-deleted", 12)
    await driver.put_job(account, "ftjob-deleted", **body)
    wanted = {"scope": "account", "account": driver.account_id(account), "parts": ["jobs"]}
    await resync(driver, **wanted)
    await driver.control("DELETE", f"wandb/runs/{PROJECT}/ftjob-deleted")
    answer = await resync(driver, **wanted, force=True)
    assert answer["failed"] == 0, answer
    shown = await driver.shown_job("ftjob-deleted")
    assert shown is not None
    assert shown["run"] == f"{PROJECT}/ftjob-deleted-2"
    found = await driver.compared("ftjob-deleted", published_by(body))
    assert (found.missing, found.duplicate, found.unexpected) == ([], [], [])


async def test_only_newer_jobs_are_taken_when_since_is_given(driver: Driver) -> None:
    account = await driver.onboard()
    await driver.put_job(account, "ftjob-before", **finished_job("ftjob-before", 3))
    fresh = finished_job("ftjob-after", 3)
    fresh["job"]["created_at"] = int(time.time()) - 3600
    await driver.put_job(account, "ftjob-after", **fresh)
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86_400))
    await resync(driver, scope="account", account=driver.account_id(account), since=since)
    assert await driver.shown_job("ftjob-after") is not None
    assert await driver.shown_job("ftjob-before") is None


async def test_plan_is_shown_and_nothing_written_when_only_checked(driver: Driver) -> None:
    name = driver.new_name("aoai")
    await driver.put_account(name, tags={"wandb-integration": "observe"})
    await driver.delivered()

    async def seen() -> Json | None:
        return await driver.shown_account(name)

    await until(seen, "the account is not looked at")
    await driver.put_job(name, "ftjob-checked", **finished_job("ftjob-checked", 3))
    await driver.forget_requests()
    answer = await resync(driver, scope="account", account=driver.account_id(name), mode="check")
    assert await driver.writes() == []
    wandb = [item["path"] for item in await driver.requests("wandb")]
    assert not any("file_stream" in path for path in wandb)
    assert await driver.shown_job("ftjob-checked") is None
    item = answer["items"][0]
    assert {step["kind"] for step in item["results"][0]["plan"]} >= {"enable_identity"}
    assert item["results"][1] == {"jobs": 1, "to_relay": 1, "complete": 0}


async def test_job_is_refused_when_the_account_has_none_such(driver: Driver) -> None:
    account = driver.account_id(await driver.onboard())
    code, answer = await driver.app(
        "POST", "/api/resync", {"scope": "job", "account": account, "job": "ftjob-none"}
    )
    assert (code, answer["field"]) == (404, "job")
    assert answer["reason"] == "the account has no such job"
    assert "check the job's id" in answer["remedy"]


async def test_item_fails_with_a_remedy_when_account_is_not_there(driver: Driver) -> None:
    answer = await resync(driver, scope="account", account=driver.account_id("aoai-none"))
    assert answer["failed"] == 1
    assert any("remedy" in result for result in answer["items"][0]["results"])


async def test_failing_job_is_tried_again_when_wandb_is_down_for_a_moment(
    driver: Driver,
) -> None:
    account = await driver.onboard()
    body = finished_job("ftjob-outage", 8)
    await driver.put_job(account, "ftjob-outage", **body)
    await driver.control(
        "POST",
        "faults",
        {
            "service": "wandb",
            "path_contains": "file_stream",
            "times": 9,
            "action": {"status": 503},
        },
    )
    answer = await resync(driver, scope="account", account=driver.account_id(account))
    assert answer["failed"] == 0, answer
    found = await driver.compared("ftjob-outage", published_by(body))
    assert (found.missing, found.duplicate) == ([], [])


async def test_same_call_joins_when_one_is_running(driver: Driver) -> None:
    account = await driver.onboard()
    await driver.put_job(account, "ftjob-joined", **finished_job("ftjob-joined", 3))
    await driver.control(
        "POST",
        "faults",
        {
            "service": "openai",
            "path_contains": "/events",
            "times": 1,
            "action": {"delay_s": 2},
        },
    )
    body = {"scope": "account", "account": driver.account_id(account)}
    calls = [driver.app("POST", "/api/resync", body) for _ in range(4)]
    answers = [*await asyncio.gather(*calls), await driver.app("POST", "/api/resync", body)]
    assert {code for code, _ in answers} == {202}
    assert len({answer["id"] for _, answer in answers}) == 1
    other = await driver.app("POST", "/api/resync", body | {"force": True})
    assert other[1]["id"] != answers[0][1]["id"]


async def test_location_leads_to_progress_when_taken_on(driver: Driver) -> None:
    url = f"{driver.host_url}/api/resync"
    headers = {"X-MS-CLIENT-PRINCIPAL-NAME": "ada@example.org"}
    async with driver.http.post(url, json={"scope": "all"}, headers=headers) as answer:
        assert answer.status == 202
        location = answer.headers["Location"]
        taken = await answer.json()
    assert location == f"{url}/{taken['id']}"

    async def done() -> Json | None:
        async with driver.http.get(location) as answer:
            shown = await answer.json()
        return shown if shown["state"] == "done" else None

    shown = await until(done, "the re-sync does not end")
    assert shown["total"] == shown["done"] + shown["failed"]
    assert shown["requested_by"] == "ada@example.org"
    assert shown["left_s"] == 0


async def test_set_aside_messages_are_worked_on_when_everything_is_resynced(
    driver: Driver,
) -> None:
    account = driver.account_id(driver.new_name("aoai"))
    queue = QueueClient.from_connection_string(
        driver.stack.storage_connection,
        "reconcile-accounts-poison",
        message_encode_policy=TextBase64EncodePolicy(),
    )
    async with queue:
        for _ in range(40):
            await queue.send_message(f'{{"kind": "account", "account": "{account}"}}')
        code, status = await driver.app("GET", "/api/status")
        assert code == 200
        counts = {one["name"]: one["poison"] for one in status["queues"]}
        assert counts == {
            "reconcile-accounts": 40,
            "relay-jobs": 0,
            "backfill-jobs": 0,
            "job-artifacts": 0,
        }
        await resync(driver, scope="all", parts=["jobs"])

        async def empty() -> bool | None:
            found = await queue.get_queue_properties()
            return True if found.approximate_message_count == 0 else None

        await until(empty, "the poison queue is not empty")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"scope": "everything"}, 400, "scope"),
        ({"scope": "account"}, 400, "account"),
        ({"scope": "account", "account": "aoai-demo"}, 400, "account"),
        ({"scope": "job", "account": "", "job": "ftjob-1"}, 400, "account"),
        ({"job": "ftjob-1"}, 400, "job"),
        ({"since": "yesterday"}, 400, "since"),
        ({"since": 5}, 400, "since"),
        ({"parts": ["everything"]}, 400, "parts"),
        ({"mode": "perhaps"}, 400, "mode"),
        ({"force": "yes"}, 400, "force"),
        ({"no-such": 1}, 400, "no-such"),
        ({"no such": 1}, 400, "body"),
        ([], 400, "body"),
        ({"since": "x" * 20_000}, 413, "body"),
    ],
)
async def test_field_is_named_when_body_is_wrong(
    driver: Driver, body: Any, code: int, field: str
) -> None:
    async with driver.http.post(f"{driver.host_url}/api/resync", json=body) as answer:
        assert answer.status == code
        assert answer.content_type == "application/problem+json"
        shown = await answer.json()
    assert shown["field"] == field
    assert shown["status"] == code
    assert shown["reason"]


async def test_account_is_refused_when_its_subscription_is_not_looked_after(
    driver: Driver,
) -> None:
    account = driver.account_id("aoai").replace("00000000-0000", "11111111-1111")
    code, answer = await driver.app("POST", "/api/resync", {"scope": "account", "account": account})
    assert (code, answer["field"]) == (400, "account")
    assert "AZURE_SUBSCRIPTION_IDS" in answer["remedy"]


async def raw_post(driver: Driver, query: str = "", **options: Any) -> tuple[int, Json]:
    url = f"{driver.host_url}/api/resync{query}"
    async with driver.http.post(url, **options) as answer:
        return answer.status, await answer.json()


async def test_request_is_refused_when_it_is_not_one(driver: Driver) -> None:
    json_type = {"Content-Type": "application/json"}
    assert (await raw_post(driver, data=b"{", headers=json_type))[0] == 400
    assert (await raw_post(driver, data=aiohttp.FormData({"scope": "all"})))[0] == 415
    assert (await raw_post(driver, "?wait=231"))[0] == 400
    assert (await raw_post(driver, "?wait=nan"))[0] == 400
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert (await raw_post(driver, json={}, headers=foreign))[0] == 403


@pytest.mark.parametrize("resync_id", ["0" * 32, "x", "-running", "..%2f"])
async def test_answer_is_404_when_resync_is_not_known(driver: Driver, resync_id: str) -> None:
    code, answer = await driver.app("GET", f"/api/resync/{resync_id}")
    assert code == 404
    assert answer["field"] == "id"
