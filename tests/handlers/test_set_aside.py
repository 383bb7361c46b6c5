"""Work that fails at its last try is in the status and ends its re-sync, whatever it failed of."""

from types import SimpleNamespace
from typing import Any

import pytest

from finetune_wandb.flows import jobs as relay_jobs
from finetune_wandb.flows import reconcile as reconcile_account
from finetune_wandb.flows import resync_work
from finetune_wandb.flows.app import LAST_TRY
from finetune_wandb.model.errors import RejectedError, UnavailableError
from finetune_wandb.model.messages import ReconcileMessage
from finetune_wandb.model.telemetry import NoTelemetry
from tests.handlers.resync_stage import Stage
from tests.handlers.stage import FakeProblems


class Broken:
    """Whatever is asked of it fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


ERRORS = [UnavailableError("storage is away"), RejectedError("too large"), KeyError("a secret")]


@pytest.mark.parametrize("error", ERRORS, ids=["temporary", "permanent", "unexpected"])
async def test_message_is_in_the_status_when_its_last_try_failed(error: Exception) -> None:
    stage, problems = Stage(), FakeProblems()
    stage.put_account_item()
    app: Any = SimpleNamespace(
        resyncs=stage.resyncs,
        clock=stage.app.clock,
        problems=problems,
        telemetry=NoTelemetry(),
        settings=Broken(error),
        reconcile=Broken(error),
        accounts=Broken(error),
    )
    message: ReconcileMessage = stage.message
    plain = ReconcileMessage(kind="account", account=message.account)
    for tries in range(1, LAST_TRY + 1):
        assert not problems.known
        with pytest.raises(type(error)):
            await reconcile_account.run(plain, tries, app)
    ((source, subject, cause),) = problems.known
    assert (source, subject) == ("reconcile_account", message.account)
    assert "secret" not in cause
    assert "/api/resync" in problems.remedies[0]


async def test_resync_ends_when_an_account_failed_of_something_unexpected() -> None:
    stage, problems = Stage(), FakeProblems()
    stage.put_account_item()
    stage.app.problems = problems  # type: ignore[misc]
    stage.app.telemetry = NoTelemetry()  # type: ignore[misc]
    stage.app.accounts = Broken(KeyError("a secret"))  # type: ignore[misc]
    with pytest.raises(KeyError):
        await reconcile_account.run(stage.message, LAST_TRY, stage.app)
    assert stage.account_item.state == "failed"
    assert problems.known


@pytest.mark.parametrize("error", ERRORS, ids=["temporary", "permanent", "unexpected"])
async def test_jobs_of_a_resync_end_when_their_message_failed_at_its_last_try(
    error: Exception,
) -> None:
    stage, problems = Stage(jobs=1), FakeProblems()
    stage.put_account_item()
    await resync_work.account(stage.message, stage.app)
    (message,) = stage.messages()
    stage.app.problems = problems  # type: ignore[misc]
    stage.app.telemetry = NoTelemetry()  # type: ignore[misc]
    stage.app.accounts = Broken(error)  # type: ignore[misc]
    with pytest.raises(type(error)):
        await relay_jobs.run(message, LAST_TRY, stage.app)
    (item,) = stage.job_items
    assert (item.state, item.failed) == ("failed", 1)
    ((source, subject, _),) = problems.known
    assert (source, subject) == ("relay_jobs", str(message.account))
