"""Two minutes, the promise to people: at the default schedule no value comes later."""

from datetime import UTC, datetime

import orjson
import pytest

from dev.devhost.timers import Schedule
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.messages import read_message
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.model.work import RELAY
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.finder import Finder
from tests.fakes import FakeQueue, Once, setting_defaults
from tests.relay.stage import JOB, Stage, body, event

LENGTH_S = 600
QUEUE_S = 3
"""What a message may wait for an idle worker: host.json polls every two seconds."""


@pytest.mark.parametrize("fault", [None, "list_jobs", "list_events", "post"])
async def test_value_is_in_the_run_within_two_minutes(fault: str | None) -> None:
    """A value a second; one call fails on the way, and its minute is lost."""
    stage, queue = Stage(), FakeQueue()
    finder = Finder(stage.api, stage.cursors, queue)
    schedule = Schedule(setting_defaults()["RELAY_SCHEDULE"] or "", "relay_timer")
    job = stage.api.put(body())
    began = stage.now
    due = schedule.next(datetime.fromtimestamp(began, UTC)).timestamp()
    arrived: dict[int, float] = {}
    for second in range(1, LENGTH_S):
        stage.now = began + second
        job.events.insert(0, event(second, train_loss=1.0) | {"created_at": int(stage.now)})
        if second == LENGTH_S // 2 and fault:
            gate = Once(**{fault: UnavailableError("down", subject=JOB)})
            stage.api.gate = stage.sink.gate = gate
        if stage.now >= due:
            due = schedule.next(datetime.fromtimestamp(stage.now, UTC)).timestamp()
            await finder.tick([stage.account], clock=lambda: stage.now)
        if stage.now >= due - 60 + QUEUE_S:
            for message in queue.sent:
                jobs = read_message(RELAY, orjson.dumps(message)).jobs
                await relay_account(
                    stage.account,
                    [found for raw in jobs if (found := parse_job(raw))],
                    ports=stage.ports(),
                    clock=lambda: stage.now,
                    options=stage.options,
                )
            queue.sent.clear()
        if stage.sink.runs:
            for step, _, _ in stage.values()[len(arrived) :]:
                arrived[step] = stage.now
    late = {step: at - (began + step) for step, at in arrived.items() if at - (began + step) > 120}
    assert late == {}
    assert set(range(1, LENGTH_S - 120)) <= set(arrived)
