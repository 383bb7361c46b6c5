"""Alerts as people see them: on the run in W&B and as a notice, once, and off when switched off."""

from dataclasses import replace

import pytest

from finetune_wandb.relay.ports import RelayOptions
from tests.e2e.relay.stage import START, Stage, job, message, metric

ALL = frozenset({"failed", "stalled", "diverging", "gap", "cost", "pause"})
OPTIONS = RelayOptions(
    alerts=ALL, prices={"o4-mini": {"usd_per_hour": 100.0}}, cost_alert_usd=1000.0
)
RFT = {"model": "o4-mini-2025-04-16", "method": {"type": "reinforcement"}}
HOUR = 3600


def raised(stage: Stage) -> list[str]:
    """Return the titles of the run's alerts, which must be those of the notices."""
    titles = [alert["title"] for alert in stage.run("ftjob-1")["alerts"]]
    assert titles == [notice.data["title"] for notice in stage.topic.notices]
    ids = [notice.id for notice in stage.topic.notices]
    assert len(set(ids)) == len(ids)
    return titles


async def test_failure_is_told_once(on_stage: Stage) -> None:
    on_stage.options = OPTIONS
    error = {"code": "bad_file", "message": "Row 7 has no answer"}
    over = job(status="failed", finished_at=int(START) + 90, error=error)
    await on_stage.put(over, events=[metric(1)])
    for _ in range(4):
        await on_stage.tick(60)
    assert raised(on_stage) == ["ftjob-1 failed"]
    (alert,) = on_stage.run("ftjob-1")["alerts"]
    assert (alert["text"], alert["severity"]) == ("bad_file: Row 7 has no answer", "ERROR")
    (notice,) = on_stage.topic.notices
    assert (notice.type, notice.data["reason"]) == ("WandbRelay.JobAlert", "failed")


async def test_stall_and_divergence_are_told_once(on_stage: Stage) -> None:
    on_stage.options = OPTIONS
    calm = [metric(step, train_loss=2.0 / step) for step in range(1, 6)]
    await on_stage.put(job(), events=calm)
    await on_stage.tick()
    assert raised(on_stage) == []
    for _ in range(12):
        await on_stage.tick(60)
    assert raised(on_stage) == ["ftjob-1 is stalled"]
    await on_stage.put(job(), events=[*calm, metric(6, train_loss=9.0)])
    await on_stage.tick(60)
    await on_stage.tick(60)
    assert raised(on_stage) == ["ftjob-1 is stalled", "ftjob-1 diverges"]


async def test_cost_pause_and_resume_are_told_once_each(on_stage: Stage) -> None:
    on_stage.options = OPTIONS
    events = [message("Training started.", 0), metric(1, train_reward_mean=0.5, total_steps=100)]
    for hour in range(0, 47, 2):
        step = hour + 2
        events.append(metric(step, train_reward_mean=step / 100, total_steps=100))
        await on_stage.put(job(**RFT), events=events)
        on_stage.now = START + hour * HOUR
        await on_stage.tick()
    assert raised(on_stage) == ["ftjob-1 passed 1000 USD", "ftjob-1 will be paused soon"]
    summary = on_stage.run("ftjob-1")["summary"]
    assert summary["cost_usd"] == 4600.0
    assert summary["progress"] == 0.48
    assert summary["cost_usd_projected"] == round(4600 / 0.48, 4)
    await on_stage.put(job(status="paused", **RFT), events=events)
    await on_stage.tick(HOUR)
    await on_stage.tick(10 * HOUR)
    await on_stage.put(job(**RFT), events=[*events, metric(60, train_reward_mean=0.6)])
    await on_stage.tick(HOUR)
    assert raised(on_stage)[2:] == ["ftjob-1 is paused", "ftjob-1 was resumed"]
    # The hours of the pause, as the relay saw it, cost nothing.
    summary = on_stage.run("ftjob-1")["summary"]
    assert summary["paused_seconds"] == 11 * HOUR
    assert summary["cost_usd"] == 4700.0


async def test_nothing_is_told_when_alerts_are_off(on_stage: Stage) -> None:
    on_stage.options = replace(OPTIONS, alerts=frozenset())
    await on_stage.put(job(status="failed", finished_at=int(START) + 90), events=[metric(1)])
    await on_stage.tick()
    assert raised(on_stage) == []


@pytest.mark.parametrize("status", [503, 400])
async def test_values_arrive_when_an_alert_cannot_be_raised(on_stage: Stage, status: int) -> None:
    on_stage.options = OPTIONS
    await on_stage.put(job(), events=[metric(1)])
    await on_stage.tick()
    fault = {
        "service": "wandb",
        "path_contains": "graphql",
        "times": 4,
        "action": {"status": status, "headers": {}, "body": {}},
    }
    events = [metric(1), metric(2, train_loss=float(9))]
    await on_stage.put(job(), events=events)
    async with on_stage.transport.session().post(
        f"{on_stage.url}/_sandbox/faults", json=fault
    ) as answer:
        assert answer.status < 300
    (outcome,) = (await on_stage.tick(60)).values()
    assert outcome.error == ""
    assert [row["step"] for row in on_stage.run("ftjob-1")["history"]] == [1, 2]
    await on_stage.tick(60)
    notes = on_stage.cursor("ftjob-1").notes
    if status == 503:  # told later
        assert raised(on_stage) == ["ftjob-1 diverges"]
    else:  # refused for good, and said so
        assert any("alert diverging could not be raised" in note for note in notes)
