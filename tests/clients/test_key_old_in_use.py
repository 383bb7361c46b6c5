"""Whether jobs with their own integration, begun before a rotation, still hold the old key."""

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.storage.account_tables import AccountTable
from finetune_wandb.clients.storage.cursor_table import CursorTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.transport import Transport
from finetune_wandb.flows.key import NativeJobs
from finetune_wandb.model.accounts.key import KeyMint
from finetune_wandb.model.accounts.report import AccountReport
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.secret import SecretRef
from tests.clients.azure_stage import ALPHA, PLACE, VAULT, make_account
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only

SWITCHED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BEFORE = SWITCHED.timestamp() - 3600
MINT = KeyMint(secret=PLACE, state="switched", switched_at=SWITCHED)


@pytest.fixture
async def native(sandbox: Client, transport: Transport, storage: Storage) -> NativeJobs:
    await make_account(sandbox)
    accounts = AccountTable(storage)
    await accounts.write(
        AccountReport(
            id=ALPHA,
            checked_at=SWITCHED,
            mode="full",
            findings=(),
            in_scope=True,
            endpoint="https://alpha.openai.azure.com",
            project="proj",
            secret=PLACE,
        )
    )
    jobs = Jobs(transport, "https://cognitiveservices.azure.com/.default")
    return NativeJobs(accounts, CursorTable(storage), jobs)


async def seen(sandbox: Client, storage: Storage, job: str, now: str, **more: Any) -> None:
    """Have the relay know of a job as it was, and Azure as it is now."""
    cursor = Cursor(ALPHA.key, job, relay_state="skipped", status="running", created_at=BEFORE)
    for name, value in more.items():
        setattr(cursor, name, value)
    stored = await CursorTable(storage).read(ALPHA.key, [job])
    cursor.etag = stored[job].etag if job in stored else ""
    assert await CursorTable(storage).save([cursor]) == {}
    if now:
        body = {"job": {"id": job, "status": now, "created_at": int(BEFORE)}}
        await sandbox.control("PUT", f"accounts/alpha/jobs/{job}", body)


async def test_old_key_is_in_use_while_a_job_from_before_runs(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await seen(sandbox, storage, "ftjob-1", "running")
    assert await native.use_old_key(MINT)
    await seen(sandbox, storage, "ftjob-1", "succeeded")
    assert not await native.use_old_key(MINT)


@pytest.mark.parametrize(
    ("job", "status", "more"),
    [
        ("ftjob-gone", "", {}),
        ("ftjob-relayed", "running", {"relay_state": "live"}),
        ("ftjob-later", "running", {"created_at": BEFORE + 7200}),
        ("ftjob-over", "running", {"status": "failed"}),
    ],
)
async def test_old_key_is_not_in_use_when_the_job_is(
    sandbox: Client,
    storage: Storage,
    native: NativeJobs,
    job: str,
    status: str,
    more: dict[str, Any],
) -> None:
    await seen(sandbox, storage, job, status, **more)
    assert not await native.use_old_key(MINT)


async def test_old_key_counts_as_used_when_azure_does_not_answer(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await seen(sandbox, storage, "ftjob-1", "succeeded")
    await sandbox.control("POST", "faults", {"service": "openai", "action": {"status": 403}})
    assert await native.use_old_key(MINT)


async def test_jobs_of_another_secret_do_not_count(
    sandbox: Client, storage: Storage, native: NativeJobs
) -> None:
    await seen(sandbox, storage, "ftjob-1", "running")
    other = KeyMint(secret=SecretRef(VAULT, "another"), switched_at=SWITCHED)
    assert not await native.use_old_key(other)
