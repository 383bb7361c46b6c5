"""An alert reaches people once, whatever fails around it."""

import asyncio

from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.relay.ports import RelayOptions
from tests.fakes import Once, Open
from tests.relay.run.test_alerts import ALL
from tests.relay.stage import T0, Stage, body, event

PRICED = RelayOptions(alerts=ALL, prices={"gpt": {"usd_per_1k_tokens": 1.0}}, cost_alert_usd=5.0)


async def test_alert_comes_once_when_the_end_cannot_be_confirmed() -> None:
    class NoReads(Open):
        on = False

        async def before(self, call: str) -> None:
            if self.on and call == "read_run":
                raise UnavailableError("no replica")

    stage = Stage(options=PRICED)
    gate = stage.sink.gate = NoReads()
    job = stage.api.put(body("succeeded"), events=[event(1, train_loss=0.5)])
    while not stage.cursors.stored or stage.cursor.state["looks"] < 5:
        await stage.tick()
        stage.now = stage.cursor.retry_at
    gate.on = True
    bill = {"id": "b", "created_at": T0 + 90, "message": "Training tokens billed: 9,000"}
    job.events.insert(0, {**bill, "level": "info", "data": {}})
    calls = len(stage.sink.calls)
    for _ in range(3):
        await stage.tick()
        stage.now += 60
    assert stage.sink.calls[calls:].count("alert") == 1
    assert [alert.reason for alert in stage.run.alerts] == ["cost"]


async def test_alert_comes_once_when_its_answer_is_lost() -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    stage.api.put(body("failed"), events=[event(1, train_loss=0.5)])
    stage.sink.gate = Once(lost_alert=UnavailableError("504"))
    for _ in range(3):
        await stage.tick()
        stage.now += 60
    assert [alert.reason for alert in stage.run.alerts] == ["failed"]
    assert stage.cursor.notes == ()


async def test_alert_comes_once_when_two_workers_look_at_once() -> None:
    class Slow(Open):
        async def before(self, call: str) -> None:
            if call == "alert":
                await asyncio.sleep(0.01)

    stage = Stage(options=RelayOptions(alerts=ALL))
    stage.api.put(body(), events=[event(step, train_loss=0.5) for step in range(9, 0, -1)])
    await stage.tick()
    stage.now += 3600
    stage.sink.gate = Slow()
    await asyncio.gather(stage.tick(), stage.tick())
    assert [alert.reason for alert in stage.run.alerts] == ["stalled"]
