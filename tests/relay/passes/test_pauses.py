"""What a pause or a resume sets off comes once W&B and storage answer, not only at that tick."""

import pytest

from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import Once
from tests.relay.stage import Stage, body, event

REINFORCED = {"method": {"type": "reinforcement"}}


async def test_resume_is_announced_when_wandb_was_down_at_that_tick() -> None:
    stage = Stage(options=RelayOptions(alerts=frozenset({"pause"})))
    job = stage.api.put(body("paused", **REINFORCED), events=[event(1, train_loss=0.5)])
    await stage.tick()
    job.body = body(**REINFORCED)
    stage.sink.gate = Once(post=UnavailableError("503"))
    for _ in range(3):
        stage.now += 60
        await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["pause:paused", "pause:resumed"]


@pytest.mark.parametrize("where", ["post", "ensure_run", "save"])
async def test_checkpoints_are_logged_once_when_the_pass_at_the_pause_failed(where: str) -> None:
    stage = Stage(options=RelayOptions(artifacts=True))
    job = stage.api.put(body(), events=[event(1, train_loss=0.5)])
    await stage.tick()
    job.body = body("paused")
    failing = stage.cursors if where == "save" else stage.sink
    failing.gate = Once(**{where: UnavailableError("503")})
    asked = []
    for _ in range(4):
        stage.now += 60
        try:
            (outcome,) = await stage.tick()
        except UnavailableError:
            continue
        asked.append(outcome.wants_artifacts)
    assert asked.count(True) == 1
