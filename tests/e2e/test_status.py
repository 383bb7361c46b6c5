"""The status answer: filters, pages, and 304 for a caller that already has it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dev.tools.demo.cloud import Json
from tests.e2e.driver import Driver, job_object, metric_events, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *"}
    async with running(tmp_path_factory.mktemp("run"), host_env=quiet) as started:
        account = await started.onboard("aoai-good")
        await started.put_account("aoai-watched", tags={"wandb-integration": "observe"})
        for number in range(5):
            job_id = f"ftjob-{number}"
            job = job_object(job_id, "running", created_at=1_790_000_000 + number)
            await started.put_job(account, job_id, job=job, events=metric_events(job_id, 3))
        await started.app("POST", "/api/resync?wait=60", {})
        yield started


async def shown(driver: Driver, query: str) -> Json:
    code, answer = await driver.app("GET", f"/api/status{query}")
    assert code == 200, answer
    return dict(answer)


def names(answer: Json) -> tuple[list[str], list[str]]:
    return [one["name"] for one in answer["accounts"]], [one["id"] for one in answer["jobs"]]


ALL = [f"ftjob-{number}" for number in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("query", "accounts", "jobs"),
    [
        ("", ["aoai-good", "aoai-watched"], ALL),
        ("?account=aoai-watched", ["aoai-watched"], []),
        ("?account=AOAI-GOOD", ["aoai-good"], ALL),
        ("?unhealthy=1", ["aoai-watched"], []),
        ("?job=ftjob-2", [], ["ftjob-2"]),
        ("?limit=2", ["aoai-good", "aoai-watched"], ALL[:2]),
        ("?limit=2&page=2", [], ALL[2:4]),
        ("?limit=2&page=3", [], ALL[4:]),
        ("?limit=2&page=9", [], []),
    ],
)
async def test_answer_holds_only_what_matches_when_filtered(
    driver: Driver, query: str, accounts: list[str], jobs: list[str]
) -> None:
    answer = await shown(driver, query)
    assert names(answer) == (accounts, jobs)
    assert answer["totals"]["jobs"] == 5
    assert answer["totals"]["unhealthy"] == 1


async def test_account_is_found_when_named_by_its_id(driver: Driver) -> None:
    answer = await shown(driver, f"?account={driver.account_id('aoai-good').upper()}")
    assert names(answer) == (["aoai-good"], ALL)


async def test_pages_are_counted_when_limited(driver: Driver) -> None:
    paging = (await shown(driver, "?limit=2"))["paging"]
    assert paging == {"page": 1, "limit": 2, "pages": 3, "accounts": 2, "jobs": 5}


async def test_answer_is_304_until_something_changes_when_caller_sends_its_tag(
    driver: Driver,
) -> None:
    url = f"{driver.host_url}/api/status?job=ftjob-1"
    async with driver.http.get(url) as answer:
        tag = answer.headers["ETag"]
    headers = {"If-None-Match": f'"other", {tag}'}
    async with driver.http.get(url, headers=headers) as answer:
        assert answer.status == 304
        assert await answer.read() == b""
        assert answer.headers["ETag"] == tag
    job = job_object("ftjob-1", "running", created_at=1_790_000_001)
    await driver.put_job("aoai-good", "ftjob-1", job=job, events=metric_events("ftjob-1", 6))
    wanted = {"scope": "job", "account": driver.account_id("aoai-good"), "job": "ftjob-1"}
    await driver.app("POST", "/api/resync?wait=60", wanted)
    async with driver.http.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] != tag
        (shown_job,) = (await answer.json())["jobs"]
    assert shown_job["last_step"] == 6


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?page=0", "page"),
        ("?page=-1", "page"),
        ("?limit=5001", "limit"),
        ("?limit=many", "limit"),
        ("?unhealthy=perhaps", "unhealthy"),
        (f"?account={'x' * 2049}", "account"),
    ],
)
async def test_parameter_is_named_when_it_is_wrong(driver: Driver, query: str, field: str) -> None:
    code, answer = await driver.app("GET", f"/api/status{query}")
    assert (code, answer["field"]) == (400, field)


async def test_health_says_only_up_when_settings_are_usable(driver: Driver) -> None:
    assert await driver.app("GET", "/api/health") == (200, {"status": "up"})
