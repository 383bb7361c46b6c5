"""Whether jobs with their own integration, begun before a switch of keys, still hold the old key."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.storage.account_tables import AccountTable
from finetune_wandb.clients.storage.cursor_table import CursorTable
from finetune_wandb.clients.storage.queues import Queues
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.transport import Transport
from finetune_wandb.flows.key import NativeJobs
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.secret import SecretRef
from finetune_wandb.relay.passes.finder import Finder
from tests.clients.azure_stage import ALPHA, PLACE, VAULT, make_account
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only

SWITCHED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BEFORE = SWITCHED.timestamp() - 3600
NATIVE = [{"type": "wandb", "wandb": {"project": "p"}}]


@pytest.fixture
async def native(sandbox: Client, transport: Transport, storage: Storage) -> NativeJobs:
    await make_account(sandbox)
    jobs = Jobs(transport, "https://cognitiveservices.azure.com/.default")
    # What NATIVE_JOBS says does not change what Azure lists.
    finder = Finder(jobs, CursorTable(storage), Queues(storage), skip_native=False)
    return NativeJobs(AccountTable(storage), finder.pages)


async def store(storage: Storage, **more: Any) -> None:
    """Have the app know of the account."""
    report = AccountReport(
        id=ALPHA,
        checked_at=SWITCHED,
        mode="full",
        findings=(),
        in_scope=True,
        endpoint="https://alpha.openai.azure.com",
        project="proj",
        secret=PLACE,
    )
    await AccountTable(storage).write(replace(report, **more))


async def has(sandbox: Client, status: str = "running", **more: Any) -> None:
    """Have Azure answer so for the account's job."""
    job = {"status": status, "created_at": int(BEFORE), "integrations": NATIVE} | more
    body = {"job": {"id": "ftjob-1", **job}}
    await sandbox.control("PUT", "accounts/alpha/jobs/ftjob-1", body)


@pytest.mark.parametrize(
    "more",
    [{}, {"in_scope": False}, {"secret": None}],
    ids=["relayed", "opted out", "its tags name what is not allowed"],
)
async def test_old_key_is_in_use_while_a_native_job_from_before_runs(
    sandbox: Client, storage: Storage, native: NativeJobs, more: dict[str, Any]
) -> None:
    await store(storage, **more)
    await has(sandbox)
    assert await native.use_old_key(PLACE, SWITCHED)
    await has(sandbox, "paused")
    assert await native.use_old_key(PLACE, SWITCHED)
    await has(sandbox, "succeeded")
    assert not await native.use_old_key(PLACE, SWITCHED)


@pytest.mark.parametrize(
    "job",
    [
        pytest.param({"integrations": []}, id="not native"),
        pytest.param({"created_at": int(BEFORE) + 7200}, id="begun later"),
    ],
)
async def test_old_key_is_not_in_use_when_the_job_is(
    sandbox: Client, storage: Storage, native: NativeJobs, job: dict[str, Any]
) -> None:
    await store(storage)
    await has(sandbox, **job)
    assert not await native.use_old_key(PLACE, SWITCHED)


async def test_job_begun_between_two_switches_counts_for_the_later_one(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await store(storage)
    await has(sandbox, created_at=int(BEFORE) + 7200)
    assert await native.use_old_key(PLACE, SWITCHED + timedelta(hours=2))


async def test_old_key_counts_as_used_when_azure_does_not_answer(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await store(storage)
    await has(sandbox, "succeeded")
    await sandbox.control("POST", "faults", {"service": "openai", "action": {"status": 403}})
    assert await native.use_old_key(PLACE, SWITCHED)


async def test_jobs_of_another_secret_do_not_count(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await store(storage)
    await has(sandbox)
    assert not await native.use_old_key(SecretRef(VAULT, "another"), SWITCHED)
