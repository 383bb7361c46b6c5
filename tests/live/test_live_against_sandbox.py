"""The live suite is known to work: it runs here, in a process of its own, against the sandbox."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.e2e.driver import KEY, PROJECT, job_object, metric_events, running
from tests.live.settings import BASIC, OPTIONAL

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
NOT_IN_THE_SANDBOX = {
    "test_deployment_is_what_the_templates_say",
    "test_only_the_one_role_can_be_assigned",
    "test_event_subscriptions_are_healthy",
    "test_ticks_go_on_without_anybody_calling",
    "test_account_event_arrives",
    "test_poison_message_is_logged_as_expected",
    "test_preflight_reads_what_azure_offers",
    "test_hooks_know_what_was_deployed",
    "test_hooks_change_nothing_when_they_run_again",
    "test_silent_run_is_called_crashed_after_minutes_and_revived_by_a_post",
    "test_pending_run_stays_pending_when_nothing_is_sent",
}
"""Points about what is deployed, its logs and its rights, and those that take minutes."""


async def suite(environ: dict[str, str]) -> tuple[int, str]:
    """Run the live tests with these variables and no others of theirs."""
    kept = {k: v for k, v in os.environ.items() if k not in (*BASIC, *OPTIONAL, "PYTEST_ADDOPTS")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-m", "live", "-p", "no:cacheprovider", "tests/live"),
        env=kept | environ,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_each_point_gets_its_verdict_when_the_sandbox_stands_in(tmp_path: Path) -> None:
    async with running(tmp_path) as driver:
        name = await driver.onboard()
        job = driver.new_name("ftjob-live")
        events = metric_events(job, 3)
        await driver.put_job(name, job, job=job_object(job, "running"), events=events)
        entity, project = PROJECT.split("/")
        await driver.control("PUT", "wandb/keys", {"key": KEY, "state": "active"})
        await driver.control(
            "PUT", "wandb/settings", {"default_keys": "reject", "counter_lag_s": 0}
        )
        before = await driver.read_account(name)
        code, output = await suite(
            {
                "SANDBOX_URL": driver.sandbox_url,
                "WANDB_BASE_URL": driver.stack.wandb_url,
                "LIVE_ACCOUNT_ID": driver.account_id(name),
                "LIVE_VAULT_URL": "https://kv-sandbox.vault.azure.net",
                "LIVE_SECRET_NAME": "wandb-api-key",
                "LIVE_WANDB_ENTITY": entity,
                "LIVE_WANDB_PROJECT": f"{project}-live",
                "LIVE_APP_URL": driver.stack.host_url,
                "LIVE_WRITE": "1",
            }
        )
        after = await driver.read_account(name)
        left = [path for path in await driver.control("GET", "wandb/runs") if "-live/" in path]
    assert code == 0, output
    verdicts = dict(re.findall(r"^(test_\w+): (\w+)", output, re.MULTILINE))
    assert {test for test, word in verdicts.items() if word == "open"} == NOT_IN_THE_SANDBOX
    assert set(verdicts.values()) == {"holds", "told", "open"}
    assert "Cost: " in output
    # Cleaned up: the account is as it was, no run of the suite is left.
    assert (after["tags"], after["identity"]) == (before["tags"], before["identity"])
    assert left == []


async def test_nothing_is_asked_and_each_name_is_told_when_nothing_is_set() -> None:
    code, output = await suite({})
    assert code == 0, output
    assert all(name in output for name in BASIC)
    assert "passed" not in output
