"""A Stop that someone presses on the run in W&B: noted, or the job is cancelled, truthfully."""

import pytest

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import AppError, NotReadyError, RejectedError
from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import FakeJobs
from tests.relay.stage import JOB, Stage, body, event


class Refusing(FakeJobs):
    """Azure that refuses to cancel, or answers as if it had (None)."""

    def __init__(self, error: AppError | None) -> None:
        super().__init__()
        self._error = error

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        self.calls.append("cancel_job")
        if self._error is not None:
            raise self._error


async def _pressed(api: FakeJobs, *, cancel: bool) -> Stage:
    options = RelayOptions(cancel_on_stop=cancel, alerts=frozenset({"stalled"}))
    stage = Stage(api=api, options=options)
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    await stage.tick()
    stage.run.stopped = True
    for step in (2, 3, 4):
        stage.now += 60
        stage.api.jobs[JOB].events.insert(0, event(step, train_loss=0.4))
        await stage.tick()
    return stage


async def test_job_goes_on_with_a_note_when_stop_is_only_noted() -> None:
    stage = await _pressed(FakeJobs(), cancel=False)
    assert stage.api.cancelled == []
    assert any("goes on" in note for note in stage.cursor.notes)
    assert len(stage.values()) == 4


async def test_job_is_cancelled_once_when_settings_say_so() -> None:
    stage = await _pressed(FakeJobs(), cancel=True)
    assert stage.api.cancelled == [JOB]
    assert any(note.startswith("cancelled") for note in stage.cursor.notes)


@pytest.mark.parametrize(
    "error",
    [
        None,
        RejectedError("invalidState", subject=JOB, code="409"),
        NotReadyError("no role yet", subject=JOB, code="PermissionDenied", retry_after=60.0),
    ],
    ids=["silently", "refused", "no role"],
)
async def test_cancelling_is_retried_and_never_claimed_when_azure_refuses(
    error: AppError | None,
) -> None:
    stage = await _pressed(Refusing(error), cancel=True)
    assert stage.api.calls.count("cancel_job") == 3
    assert not any(note.startswith("cancelled") for note in stage.cursor.notes)
    assert any("could not be cancelled" in note for note in stage.cursor.notes)
    assert len(stage.values()) == 4, "values do not wait for it"
    stage.now += 7200
    await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["stalled"], "nor do alerts"
