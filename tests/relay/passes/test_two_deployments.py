"""Two deployments of the app, each with its own storage, that write to one project."""

import asyncio
from collections import Counter

import pytest

from tests.fakes import FakeSink, Open
from tests.relay.stage import T0, Stage, body, event


class Turns(Open):
    """Lets the other one come in before each call."""

    async def before(self, call: str) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("status", ["running", "queued"])
@pytest.mark.parametrize("later_s", [0, 30])
async def test_each_deployment_has_a_run_of_its_own(status: str, later_s: int) -> None:
    sink = FakeSink(Turns())
    one, two = Stage(sink=sink), Stage(sink=sink)
    two.api = one.api
    two.now += later_s
    losses = [event(n, train_loss=1 / n) for n in (3, 2, 1)]
    job = one.api.put(body(status), events=losses if status == "running" else [])
    if later_s:
        await one.tick()
        await two.tick()
    else:
        await asyncio.gather(one.tick(), two.tick())
    job.body, job.events = body(), losses
    one.now += 60
    await one.tick()
    job.events[:0] = [
        {**event(n, valid_loss=2 / n), "id": f"v{n}", "created_at": T0 + 50 + n} for n in (3, 2, 1)
    ]
    for stage in (two, one) * 3:
        stage.now = max(stage.now + 60, T0 + 400)
        await stage.tick()
    assert one.cursor.run is not None
    assert two.cursor.run is not None
    assert one.cursor.run != two.cursor.run
    for stage in (one, two):
        values = stage.values(sink.runs[str(stage.cursor.run)])
        assert len(values) == 6
        assert max(Counter((step, name) for step, name, _ in values).values()) == 1
