"""Which alerts are due: each reason, its threshold, its switch, and once per job."""

from dataclasses import replace
from typing import Any

import pytest

from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.errors import AppError, DeniedError, RejectedError, UnavailableError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import RunAlert, RunKey
from finetune_wandb.relay.ports import RelayOptions
from finetune_wandb.relay.published.rows import Row
from finetune_wandb.relay.run.alerts import Facts, due_alerts
from finetune_wandb.relay.run.summary import Summary
from tests.fakes import FakeSink
from tests.relay.stage import Stage, body, event

NOW = 1_764_000_000.0
ALL = frozenset({"failed", "stalled", "diverging", "gap", "cost", "pause"})
OPTIONS = RelayOptions(alerts=ALL, cost_alert_usd=50.0)
RUNNING = Job("ftjob-1", "running", model="m", created_at=NOW - 9000)
RFT = replace(RUNNING, method="reinforcement")


def seen(**changes: Any) -> Summary:
    """Return the summary of a job with a hundred calm steps."""
    quiet = {
        "first_value_at": NOW - 1000,
        "loss": [2.0, 0.5],
        "last": {"train_loss": [100, 0.6]},
        "running_at": NOW - 9000,
    }
    return Summary.load({**quiet, **changes})


QUIET = Facts(
    now=NOW,
    previous_status="running",
    summary=seen(),
    last_value_at=NOW - 10,
    value_seen_at=NOW - 10,
    steps=100,
    cost=None,
)


def trained(train: str, valid: str, *steps: tuple[int, float, float]) -> Summary:
    summary = seen()
    summary.take_rows([Row(at, {train: t, valid: v}) for at, t, v in steps])
    return summary


APART = trained(
    *("train_loss", "full_valid_loss"),
    *((10, 1.0, 1.1), (20, 0.6, 0.9), (30, 0.5, 1.0), (40, 0.4, 1.2), (50, 0.4, 1.3)),
)
HACKED = trained(
    *("train_mean_reward", "full_valid_mean_reward"),
    *((1, 0.5, 0.5), (4, 0.7, 0.6), (10, 0.9, 0.6), (15, 0.95, 0.5), (20, 0.97, 0.4)),
)


def due(
    job: Job = RUNNING, *raised: str, options: RelayOptions = OPTIONS, **facts: Any
) -> list[str]:
    marks = [mark for reason in raised for mark in (reason, f"{reason}@topic")]
    alerts = due_alerts(job, replace(QUIET, **facts), options, marks)
    assert all(0 < len(alert.title) < 64 and alert.text for alert in alerts)
    return [alert.reason for alert in alerts]


CASES: dict[str, tuple[Job, dict[str, Any]]] = {
    "failed": (replace(RUNNING, status="failed", finished_at=NOW - 60), {}),
    "stalled": (RUNNING, {"value_seen_at": NOW - 3600}),
    "diverging": (RUNNING, {"summary": seen(last={"train_loss": [100, 6.5]})}),
    "stalled:no_value": (RUNNING, {"steps": 0, "summary": seen(running_at=NOW - 7201)}),
    "gap": (RUNNING, {"summary": APART}),
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
        (RUNNING, {"value_seen_at": NOW - 900, "summary": seen(first_value_at=NOW - 20_000)}),
        (RUNNING, {"value_seen_at": None}),
        (replace(RUNNING, status="paused"), {"value_seen_at": NOW - 90_000}),
        (RUNNING, {"summary": seen(last={"train_loss": [100, 1.9]})}),
        (RUNNING, {"summary": seen(last={"train_loss": [100, 5.9]})}),
        (RUNNING, {"summary": seen(loss=[2.0, 0.0], last={"train_loss": [100, 9.0]})}),
        (RFT, {"summary": seen(last={"train_loss": [100, 9.0]})}),
        (RUNNING, {"steps": 0, "summary": seen(running_at=NOW - 7199)}),
        (RUNNING, {"steps": 0, "summary": seen(running_at=None)}),
        (replace(RUNNING, status="queued"), {"steps": 0, "summary": seen(running_at=1.0)}),
        (RFT, {"summary": APART}),
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
        "policy-loss",
        "no-value-for-a-while",
        "no-value-at-first-sight",
        "no-value-in-the-queue",
        "policy-loss-apart",
        "cheap",
        "far-from-the-pause",
        "resumed-by-hand",
    ],
)
def test_nothing_is_due_when_there_is_no_reason(job: Job, facts: dict[str, Any]) -> None:
    assert [reason for reason in due(job, **facts) if reason != "cost" or job is not RFT] == []


def test_diverging_is_due_when_a_value_was_no_number() -> None:
    assert due(summary=seen(not_finite=True)) == ["diverging"]


def test_stall_factor_decides_what_is_silence() -> None:
    summary = seen(first_value_at=NOW - 20_000, running_at=NOW - 21_000)
    facts = {"value_seen_at": NOW - 2500, "summary": summary}
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


def test_gap_is_due_when_rewards_come_apart() -> None:
    assert due(RFT, summary=HACKED) == ["gap"]


@pytest.mark.parametrize(
    "summary",
    [
        trained("train_loss", "valid_loss", *((n, 0.3, 1.0 - n / 100) for n in range(1, 50))),
        trained("train_loss", "valid_loss", (1, 0.5, 0.4), *((n, 0.4, 0.5) for n in (2, 3, 4, 5))),
        trained("train_loss", "valid_loss", (1, 0.5, 0.4), (2, 0.1, 0.9), (3, 0.1, 1.9)),
        trained("train_loss", "other", *((n, 0.1, 9.0) for n in range(9))),
    ],
    ids=["validation-improves", "close-together", "too-early", "nothing-validated"],
)
def test_no_gap_is_due_when_validation_follows_training(summary: Summary) -> None:
    assert due(summary=summary) == []


def test_silence_counts_from_the_last_phase_when_no_value_came_yet() -> None:
    phases = {"phases": [[NOW - 7000, 2]]}
    assert due(steps=0, summary=seen(running_at=NOW - 9000, usage=phases)) == []


@pytest.mark.parametrize(
    ("line", "reasons"),
    [("2,nan,0.5", ["diverging"]), ("2,inf,0.5", ["diverging"]), ("2,0.5,NaN", [])],
    ids=["not-a-number", "infinite", "no-validation-at-this-step"],
)
async def test_diverging_is_raised_when_only_the_result_file_says_it(
    line: str, reasons: list[str]
) -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    stage.api.files["file-r"] = f"step,train_loss,valid_loss\n1,0.5,0.5\n{line}\n".encode()
    over = body("succeeded", result_files=["file-r"])
    stage.api.put(over, events=[event(1, train_loss=0.5)])
    await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == reasons


async def test_stall_before_the_first_value_is_raised_once_and_a_later_one_too() -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    job = stage.api.put(body())
    for _ in range(150):
        stage.now += 60
        await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["stalled:no_value"]
    job.events = [event(step, train_loss=0.5) for step in (3, 2, 1)]
    for _ in range(60):
        stage.now += 60
        await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["stalled:no_value", "stalled"]


@pytest.mark.parametrize("between", ["resuming", "pausing", "queued"])
async def test_job_is_not_stalled_when_it_waited_for_a_gpu_after_a_pause(between: str) -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    job = stage.api.put(body(), events=[event(step, train_loss=0.5) for step in range(9, 0, -1)])
    await stage.tick()
    for status, minutes in (("paused", 5), (between, 90)):
        job.body = body(status)
        for _ in range(minutes):
            stage.now += 60
            await stage.tick()
    job.body = body()  # running again: the first step is a minute away
    stage.now += 60
    await stage.tick()
    assert stage.run.alerts == []


async def test_job_is_not_stalled_when_it_trains_steps_again() -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    job = stage.api.put(body(), events=[event(n, train_loss=1 / n) for n in range(60, 0, -1)])
    stage.now += 60
    await stage.tick()
    for n in range(1, 60):
        stage.now += 60
        again = {"id": f"again-{n}", "created_at": int(stage.now) - 5}
        job.events.insert(0, {**event(n, train_loss=0.9), **again})
        await stage.tick()
    assert stage.run.alerts == []
    for _ in range(60):
        stage.now += 60
        await stage.tick()
    assert [alert.reason for alert in stage.run.alerts] == ["stalled"]


@pytest.mark.parametrize("value", [float("nan"), "NaN"])
async def test_job_does_not_diverge_when_an_event_has_no_number_for_no_validation(
    value: Any,
) -> None:
    stage = Stage(options=RelayOptions(alerts=ALL))
    stage.api.put(body(), events=[event(1, train_loss=0.5, valid_loss=value)])
    await stage.tick()
    assert stage.run.alerts == []


class Topic:
    """A topic that fails so many times, then takes notices."""

    def __init__(self, error: AppError, times: int) -> None:
        self._error = error
        self._left = times
        self.tries = 0
        self.notices: list[OutgoingNotice] = []

    async def publish(self, notice: OutgoingNotice) -> None:
        self.tries += 1
        if self._left:
            self._left -= 1
            raise self._error
        self.notices.append(notice)


DOWN = UnavailableError("Event Grid did not answer", subject="topic")


async def silent_job(topic: Topic, ticks: int = 60) -> Stage:
    """Return the stage of a job that is stalled for some time."""
    stage = Stage(options=RelayOptions(alerts=ALL))
    stage.api.put(body(), events=[event(step, train_loss=0.5) for step in (3, 2, 1)])
    for _ in range(ticks):
        stage.now += 60
        (outcome,) = await stage.tick(notices=topic)
        assert outcome.error == ""
    return stage


async def test_alert_comes_once_when_the_topic_cannot_be_reached() -> None:
    topic = Topic(DOWN, times=1000)
    stage = await silent_job(topic)
    assert [alert.reason for alert in stage.run.alerts] == ["stalled"]
    assert topic.tries > 10
    (note,) = stage.cursor.notes
    assert note == "alert stalled could not be raised in the topic: Event Grid did not answer"


@pytest.mark.parametrize(
    "error", [DOWN, DeniedError("no role yet", subject="topic")], ids=["down", "denied"]
)
async def test_notice_comes_once_when_the_topic_is_back(error: AppError) -> None:
    topic = Topic(error, times=5)
    stage = await silent_job(topic)
    assert (len(stage.run.alerts), len(topic.notices), topic.tries) == (1, 1, 6)
    assert stage.cursor.notes == ()


async def test_notice_is_given_up_when_the_topic_refuses_it() -> None:
    topic = Topic(RejectedError("too large", subject="topic"), times=1000)
    stage = await silent_job(topic)
    assert (len(stage.run.alerts), topic.tries) == (1, 1)
    assert "too large" in stage.cursor.notes[0]


async def test_notice_does_not_wait_for_wandb() -> None:
    class NoAlerts(FakeSink):
        async def alert(self, run: RunPath, alert: RunAlert, *, key: RunKey) -> None:
            raise UnavailableError("W&B is busy", subject=str(run))

    topic = Topic(DOWN, times=0)
    stage = Stage(options=RelayOptions(alerts=ALL), sink=NoAlerts())
    stage.api.put(body("failed"), events=[event(1, train_loss=0.5)])
    for _ in range(3):
        await stage.tick(notices=topic)
        stage.now += 60
    assert [notice.data["reason"] for notice in topic.notices] == ["failed"]
    assert "W&B is busy" in stage.cursor.notes[0]


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


async def test_job_is_not_stalled_when_its_newest_events_share_a_second() -> None:
    """Newest first, ties in the order of writing: two steps a minute, for three hours."""
    stage = Stage(options=RelayOptions(alerts=frozenset({"stalled"})))
    job = stage.api.put(body())
    for tick in range(1, 181):
        stage.now += 60
        for late in (40, 40) if tick == 4 else (40, 10):
            made = event(len(job.events) + 1, train_loss=0.5)
            job.events.append(made | {"created_at": int(stage.now) - late})
        job.events.sort(key=lambda one: -one["created_at"])
        await stage.tick()
    assert len(stage.values()) == len(job.events) == 360
    assert stage.run.alerts == []
