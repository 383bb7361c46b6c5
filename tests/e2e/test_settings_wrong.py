"""With settings that cannot be used the app starts, says which and how, and refuses all else."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.driver import Driver, running, until

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

WRONG = {
    "AZURE_SUBSCRIPTION_IDS": "not-a-guid",
    "KEY_VAULT_URL": "",
    "APPLY_MODE": "sometimes",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wrong(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("run"), host_env=WRONG) as started:
        yield started


async def test_health_names_each_setting_and_its_remedy_when_they_are_wrong(
    wrong: Driver,
) -> None:
    code, answer = await wrong.app("GET", "/api/health")
    assert (code, answer["status"]) == (503, "down")
    assert {item["setting"] for item in answer["settings"]} == set(WRONG)
    for item in answer["settings"]:
        assert item["problem"], item
        assert item["setting"] in item["remedy"], item
    # What was pasted into the wrong field may be a secret.
    assert "not-a-guid" not in str(answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/status"), ("POST", "/api/resync"), ("GET", "/api/resync/" + "0" * 32)],
)
async def test_http_functions_refuse_with_the_same_text_when_settings_are_wrong(
    wrong: Driver, method: str, path: str
) -> None:
    _, health = await wrong.app("GET", "/api/health")
    code, answer = await wrong.app(method, path, {"scope": "all"} if method == "POST" else None)
    assert code == 503
    for item in health["settings"]:
        for name in ("setting", "problem", "remedy"):
            assert item[name] in json.dumps(answer), answer


async def test_event_comes_again_later_when_settings_are_wrong(wrong: Driver) -> None:
    event = wrong.account_written(wrong.account_id("aoai-early"))
    (status,) = await wrong.deliver("account_event", event)
    assert status == 500, "an event must not be lost while settings are mended"
    _, health = await wrong.app("GET", "/api/health")

    async def look() -> bool | None:
        log = wrong.host_log()
        return True if all(item["problem"] in log for item in health["settings"]) else None

    await until(look, "the log does not give the reason", seconds=5)
