"""W&B hears of every open run at least every 90 seconds, whatever Azure does."""

from itertools import pairwise

import pytest

from finetune_wandb.model.errors import (
    AppError,
    DeniedError,
    MissingError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.relay.passes.closing import beat_runs
from tests.fakes import Open
from tests.relay.stage import JOB, Stage, body, event


class Beats(Open):
    """Notes when something was posted; a call takes half a second."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.at: list[float] = []

    async def before(self, call: str) -> None:
        if call == "post":
            self.at.append(self._stage.now)
        self._stage.now += 0.5

    @property
    def longest(self) -> float:
        return max(later - earlier for earlier, later in pairwise(self.at))


class Down(Open):
    def __init__(self, error: AppError) -> None:
        self._error = error

    async def before(self, call: str) -> None:
        if call == "list_events":
            raise self._error


async def _started() -> tuple[Stage, Beats]:
    stage = Stage()
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    stage.sink.gate = beats = Beats(stage)
    await stage.tick()
    return stage, beats


async def _minutes(stage: Stage, count: int) -> None:
    start = stage.now
    for minute in range(1, count + 1):
        stage.now = start + 60 * minute
        await stage.tick()


async def test_gaps_stay_short_when_nothing_is_new() -> None:
    stage, beats = await _started()
    await _minutes(stage, 20)
    assert beats.longest <= 90
    assert len(beats.at) == 21


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("503"),
        ThrottledError("429", retry_after=600.0),
        DeniedError("no role", code="403"),
        MissingError("no such job", code="404"),
    ],
    ids=["503", "429 for ten minutes", "403", "404"],
)
async def test_gaps_stay_short_when_azure_cannot_be_read(error: AppError) -> None:
    stage, beats = await _started()
    stage.api.gate = Down(error)
    await _minutes(stage, 15)
    assert beats.longest <= 90
    assert stage.cursor.error


async def test_gaps_stay_short_when_the_account_cannot_be_listed() -> None:
    stage, beats = await _started()
    start = stage.now
    ports = stage.ports()
    for minute in range(1, 15):
        stage.now = start + 60 * minute
        await beat_runs(stage.account, [JOB], ports=ports, clock=lambda: stage.now)
    assert beats.longest <= 90


async def test_no_beat_follows_the_end() -> None:
    stage, beats = await _started()
    stage.api.put(body("succeeded"), events=[event(1, train_loss=0.5)])
    await stage.finish()
    posts = len(beats.at)
    assert stage.run.state == "finished"
    await beat_runs(stage.account, [JOB], ports=stage.ports(), clock=lambda: stage.now + 999)
    assert len(beats.at) == posts


async def test_stale_pass_does_not_revive_a_run_that_has_ended_meanwhile() -> None:
    """A pass that read its cursor long ago saves it before it sends a beat."""
    stage, _ = await _started()
    stage.now += 60

    class Slow(Open):
        async def before(self, call: str) -> None:
            if call == "list_events":
                stage.api.gate = Open()
                stage.now += 400
                listed = stage.api.jobs[JOB].events
                stage.api.put(body("succeeded", finished_at=stage.now), events=listed)
                await stage.tick()
                assert stage.run.state == "finished"

    stage.api.gate = Slow()
    (outcome,) = await stage.tick()
    assert outcome.relay_state == "overtaken"
    assert stage.run.state == "finished"
