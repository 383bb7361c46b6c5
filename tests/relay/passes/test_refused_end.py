"""Every run ends, also where W&B refused its end for some time."""

import pytest

from finetune_wandb.model.errors import DeniedError, MissingError, UnavailableError
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.relay.passes.closing import ACCOUNT_DELETED, Closed
from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import Once
from tests.relay.passes.test_closing import NOW, RUN, World
from tests.relay.stage import Stage, body, event

NATIVE = [{"type": "wandb", "wandb": {"project": "p"}}]
PASSING = [
    MissingError("default backend - 404", subject=RUN, code="run"),
    DeniedError("403", subject=RUN, code="run"),
]


async def test_run_of_a_gone_account_ends_once_wandb_takes_the_key_again() -> None:
    world = World()
    world.sink.gate = Once(post=UnavailableError("down"))
    await world.relay(3)
    key = world.keys.key
    assert isinstance(key, RunKey)
    world.sink.refused.add(key.value.reveal())
    assert await world.close() == Closed(waiting=1)
    assert await world.close() == Closed(waiting=1)
    world.sink.refused.clear()
    assert await world.close(NOW + 3600) == Closed(ended=1)
    assert world.steps == [1, 2, 3]
    assert world.sink.runs[RUN].state == "failed"
    assert (world.cursor.relay_state, world.cursor.error) == ("detached", ACCOUNT_DELETED.text)


@pytest.mark.parametrize("error", PASSING, ids=["404", "403"])
async def test_another_look_is_asked_for_when_wandb_refuses_the_end_once(error: Exception) -> None:
    world = World()
    await world.relay(3)
    world.sink.gate = Once(post=error)
    assert await world.close() == Closed(waiting=1)
    assert await world.close() == Closed(ended=1)
    assert world.sink.runs[RUN].state == "failed"
    assert (world.cursor.relay_state, world.cursor.error) == ("detached", ACCOUNT_DELETED.text)


async def test_late_values_and_end_are_sent_when_the_job_is_gone_before_wandb_takes_them() -> None:
    world = World()
    await world.relay(3, "succeeded")
    world.sink.gate = Once(post=PASSING[0])
    await world.relay(4, "succeeded", NOW + 6)
    assert world.cursor.outbox
    world.sink.gate = Once(post=PASSING[0])
    assert await world.close(NOW + 7) == Closed(waiting=1)
    assert await world.close(NOW + 8) == Closed(ended=1)
    assert world.steps == [1, 2, 3, 4]
    assert (world.cursor.relay_state, world.sink.runs[RUN].state) == ("complete", "finished")


@pytest.mark.parametrize("has_rows", [True, False], ids=["with rows", "without"])
async def test_nothing_more_is_asked_for_when_a_person_deleted_the_run(has_rows: bool) -> None:
    world = World()
    if has_rows:
        world.sink.gate = Once(lost_post=UnavailableError("down"))
    await world.relay(3)
    world.sink.delete(RUN)
    assert await world.close() == Closed(ended=1)
    assert (world.cursor.relay_state, world.cursor.retry_at) == ("detached", 0)


@pytest.mark.parametrize("error", [*PASSING, None], ids=["404", "403", "no key"])
async def test_run_of_a_job_that_is_skipped_now_ends_by_a_later_pass(
    error: Exception | None,
) -> None:
    stage = Stage(options=RelayOptions(skip_native=False))
    stage.api.put(body(integrations=NATIVE), events=[event(1, train_loss=0.5)])
    await stage.tick()
    stage.options = RelayOptions(skip_native=True)
    key = stage.keys.key
    if error is None:
        stage.keys.key = None
    else:
        stage.sink.gate = Once(post=error)
    for _ in range(2):
        stage.now += 60
        await stage.tick()
        stage.keys.key = key
    assert (stage.cursor.relay_state, stage.cursor.status) == ("skipped", "running")
    assert stage.run.state == "failed"
