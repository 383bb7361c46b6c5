"""Which alerts are due: each reason, its threshold, its switch, and once per job."""

from dataclasses import replace
from typing import Any

import pytest

from finetune_wandb.model.job import Job
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.run.alerts import Facts, due_alerts
from tests.relay.stage import Stage, body, event

NOW = 1_764_000_000.0
ALL = frozenset({"failed", "stalled", "diverging", "cost", "pause"})
OPTIONS = RelayOptions(alerts=ALL, cost_alert_usd=50.0)
RUNNING = Job("ftjob-1", "running", model="m", created_at=NOW - 9000)
RFT = replace(RUNNING, method="reinforcement")
QUIET = Facts(
    now=NOW,
    previous_status="running",
    first_value_at=NOW - 1000,
    last_value_at=NOW - 10,
    value_seen_at=NOW - 10,
    steps=100,
    first_loss=2.0,
    lowest_loss=0.5,
    last_loss=0.6,
    not_finite=False,
    cost=None,
)


def due(
    job: Job = RUNNING, *raised: str, options: RelayOptions = OPTIONS, **facts: Any
) -> list[str]:
    alerts = due_alerts(job, replace(QUIET, **facts), options, raised)
    assert all(0 < len(alert.title) < 64 and alert.text for alert in alerts)
    return [alert.reason for alert in alerts]


CASES: dict[str, tuple[Job, dict[str, Any]]] = {
    "failed": (replace(RUNNING, status="failed", finished_at=NOW - 60), {}),
    "stalled": (RUNNING, {"value_seen_at": NOW - 3600}),
    "diverging": (RUNNING, {"last_loss": 6.5}),
    "cost": (RUNNING, {"cost": 50.0}),
    "pause:near": (RFT, {"cost": 4500.0}),
    "pause:paused": (replace(RFT, status="paused"), {}),
    "pause:resumed": (RFT, {"previous_status": "paused"}),
}


@pytest.mark.parametrize("reason", CASES)
def test_alert_is_due_when_its_reason_is_there(reason: str) -> None:
    job, facts = CASES[reason]
    assert reason in due(job, **facts)


@pytest.mark.parametrize("reason", CASES)
def test_alert_is_not_due_when_it_was_raised(reason: str) -> None:
    job, facts = CASES[reason]
    assert reason not in due(job, reason, **facts)


@pytest.mark.parametrize("reason", CASES)
def test_alert_is_not_due_when_it_is_switched_off(reason: str) -> None:
    job, facts = CASES[reason]
    kind = reason.split(":")[0]
    others = replace(OPTIONS, alerts=ALL - {kind})
    assert reason not in due(job, options=others, **facts)
    assert reason in due(job, options=replace(OPTIONS, alerts=frozenset({kind})), **facts)


@pytest.mark.parametrize(
    ("job", "facts"),
    [
        (RUNNING, {}),
        (replace(RUNNING, status="failed", finished_at=NOW - 2 * 86_400), {}),
        (replace(RUNNING, status="cancelled", finished_at=NOW), {}),
        (RUNNING, {"value_seen_at": NOW - 590, "steps": 1000}),
        (RUNNING, {"value_seen_at": NOW - 900, "first_value_at": NOW - 20_000}),
        (RUNNING, {"value_seen_at": None}),
        (replace(RUNNING, status="paused"), {"value_seen_at": NOW - 90_000}),
        (RUNNING, {"last_loss": 1.9}),
        (RUNNING, {"last_loss": 5.9}),
        (RUNNING, {"lowest_loss": 0.0, "last_loss": 9.0}),
        (RUNNING, {"cost": 49.99}),
        (RFT, {"cost": 4499.0, "now": NOW}),
        (RUNNING, {"previous_status": "paused"}),
    ],
    ids=[
        "quiet",
        "failed-long-ago",
        "cancelled",
        "least-silence",
        "slow-by-nature",
        "no-value-yet",
        "silent-in-a-pause",
        "loss-moves",
        "loss-below-the-threshold",
        "loss-was-zero",
        "cheap",
        "far-from-the-pause",
        "resumed-by-hand",
    ],
)
def test_nothing_is_due_when_there_is_no_reason(job: Job, facts: dict[str, Any]) -> None:
    assert [reason for reason in due(job, **facts) if reason != "cost" or job is not RFT] == []


def test_diverging_is_due_when_a_value_was_no_number() -> None:
    assert due(not_finite=True) == ["diverging"]


def test_stall_factor_decides_what_is_silence() -> None:
    facts = {"value_seen_at": NOW - 2500, "first_value_at": NOW - 20_000}
    assert due(options=replace(OPTIONS, stall_factor=10.0), **facts) == ["stalled"]
    assert due(options=replace(OPTIONS, stall_factor=20.0), **facts) == []


def test_failure_says_code_and_message() -> None:
    job = replace(CASES["failed"][0], error_code="bad_file", error_message="Row 7", suffix="x" * 80)
    (alert,) = due_alerts(job, QUIET, OPTIONS, ())
    assert (alert.level, alert.text) == ("ERROR", "bad_file: Row 7")


def test_no_cost_alert_is_due_when_no_amount_is_set() -> None:
    assert due(options=replace(OPTIONS, cost_alert_usd=0.0), cost=1e6) == []


@pytest.mark.parametrize("reason", ["failed", "diverging", "cost"])
def test_nothing_is_due_when_the_job_ended_long_ago(reason: str) -> None:
    """A backfill of old jobs is no news."""
    job, facts = CASES[reason]
    job = replace(job, status="failed" if reason == "failed" else "succeeded")
    assert reason in due(replace(job, finished_at=NOW - 3600), **facts)
    assert due(replace(job, finished_at=NOW - 90_000), **facts) == []


async def test_job_is_not_stalled_when_it_was_only_paused() -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    job = stage.api.put(body(), events=[event(step, train_loss=0.5) for step in range(9, 0, -1)])
    await stage.tick()
    job.body = body("paused")
    for _ in range(10):
        stage.now += 3600
        await stage.tick()
    job.body = body()
    await stage.tick()
    stage.now += 300
    await stage.tick()
    assert stage.run.alerts == []
    stage.now += 3600
    await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["stalled"]
