"""The OpenAPI document against the running app: schemathesis sends what it allows and forbids."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from handlers.triggers import OPENAPI
from tests.e2e.driver import Driver, job_object, metric_events, running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

NOT_CHECKED = (
    "ignored_auth",  # like `func start`, the local host asks for no keys
    "positive_data_acceptance",  # an account must also lie in a subscription that is looked after
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    quiet = {"RELAY_SCHEDULE": "0 0 0 1 1 *"}
    async with running(tmp_path_factory.mktemp("run"), host_env=quiet) as started:
        account = await started.onboard()
        job = job_object("ftjob-shown", "running")
        await started.put_job(account, "ftjob-shown", job=job, events=metric_events("x", 5))
        await started.app("POST", "/api/resync?wait=20", {"scope": "all"})
        yield started


async def test_document_is_served_when_asked_for(driver: Driver) -> None:
    code, served = await driver.app("GET", "/api/openapi.json")
    assert code == 200
    assert served == json.loads(OPENAPI.read_text())


async def test_app_and_document_agree_when_schemathesis_tries(
    driver: Driver, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        "--no-color",
        "run",
        f"{driver.host_url}/api/openapi.json",
        *("--url", f"{driver.host_url}/api"),
        *("--exclude-checks", ",".join(NOT_CHECKED)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "6"),
        *("--generation-database", "none"),
        *("--request-timeout", "30"),
        *("--seed", "7"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
