"""The meter: time by phase, hours trained, cost so far and projected, by the user's price list."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.settings import Prices
from finetune_wandb.relay.ports import RelayOptions
from finetune_wandb.relay.published.rows import parse_event
from finetune_wandb.relay.run.cost import Meter, Usage, price_of
from tests.fakes import FakeJobs
from tests.relay.stage import Stage, body, event

HOUR = 3600.0
JOB = Job("ftjob-1", "running", model="o4-mini-2025-04-16", created_at=0.0)
TOKENS = replace(JOB, model="gpt-4.1", hyperparameters={"n_epochs": 2})
PRICES: Prices = {
    "o4-mini": {"usd_per_hour": 100.0},
    "gpt-4.1": {"usd_per_1k_tokens": 0.025},
    "gpt-4.1-mini": {"usd_per_1k_tokens": 0.005, "usd_per_hour": 1.0},
    "developertier": {"usd_per_1k_tokens": 0.001},
}
# The messages of a published job, in the order of their times.
LIFE = (
    (0.0, "Job enqueued. Waiting for jobs ahead to complete."),
    (1.0, "Preprocessing running for file training file."),
    (1.2, "Preprocessing completed for file training file."),
    (1.5, "Job started."),
    (1.5, "Data Import started."),
    (2.0, "Finetuning started."),
    (2.0, "Job queued, waiting for GPUs."),
    (3.0, "Training started."),
)


def usage(*messages: tuple[float, str], state: dict[str, Any] | None = None) -> Usage:
    """Return the usage that events with these messages, at these hours, make."""
    found = Usage.load(state)
    for at, message in messages:
        said = parse_event({"id": message, "created_at": at * HOUR, "message": message})
        assert said is not None
        found.take_event(said)
    return Usage.load(orjson.loads(orjson.dumps(found.dump())))


def metered(
    of: Usage, job: Job = JOB, *, prices: Prices = PRICES, now: float = 5.5, **more: Any
) -> Meter:
    given: dict[str, Any] = {"paused_s": 0.0, "progress": None, **more}
    return of.meter(job, prices, now=now * HOUR, **given)


def test_waiting_is_not_training_when_the_messages_tell_them_apart() -> None:
    over = replace(JOB, status="succeeded", finished_at=10 * HOUR)
    for order in (LIFE, LIFE[::-1]):
        found = usage(*order)
        assert found.times(over, paused_s=2 * HOUR) == {
            "queue_seconds": 2 * HOUR,
            "preprocessing_seconds": HOUR,
            "training_seconds": 5 * HOUR,
            "total_seconds": 10 * HOUR,
        }
        assert metered(found).hours == 2.5
        assert metered(found).cost == 250.0


def test_job_started_is_no_training_yet() -> None:
    found = usage(*LIFE[:4])
    assert metered(found, now=9).hours is None
    assert metered(found, now=9).cost is None


def test_first_value_begins_the_training_when_no_message_does() -> None:
    found = usage(*LIFE[:5])
    value = parse_event({"id": "v", "created_at": 4 * HOUR, "data": {"step": 1, "train_loss": 1.0}})
    assert value is not None
    found.take_event(value)
    assert metered(found).hours == 1.5


def test_second_queue_is_not_training_when_a_job_is_resumed() -> None:
    again = ((4.0, "Job queued, waiting for GPUs."), (5.0, "Training started."))
    assert metered(usage(*LIFE, *again)).hours == 1.5


@pytest.mark.parametrize(
    ("count", "status", "state"),
    [
        (0, "pending", "queued"),
        (0, "validating_files", "preprocessing"),
        (1, "pending", "queued"),
        (2, "pending", "preprocessing"),
        (7, "running", "waiting for GPUs"),
        (8, "running", ""),
        (7, "cancelled", ""),
        (0, "running", ""),
    ],
)
def test_queue_state_says_what_a_job_waits_for(count: int, status: str, state: str) -> None:
    assert usage(*LIFE[:count]).queue_state(replace(JOB, status=status)) == state


def test_hours_end_with_the_job_when_it_is_over() -> None:
    over = replace(JOB, status="succeeded", finished_at=4 * HOUR)
    assert metered(usage(*LIFE), over).hours == 1.0


def test_cost_is_no_estimate_once_azure_says_what_it_bills() -> None:
    assert metered(usage(*LIFE)).is_estimate
    found = usage(*LIFE, (9, "Training hours billed: 24.75"))
    billed = metered(found, replace(JOB, status="succeeded", finished_at=9 * HOUR))
    assert (billed.cost, billed.is_estimate) == (2475.0, False)
    # What was billed at a pause is not all, once the job goes on.
    assert (metered(found).cost, metered(found).is_estimate) == (2475.0, True)
    assert metered(found, now=33).cost == 3000.0
    tokens = usage(*LIFE, (9, "Training tokens billed: 10440"))
    billed = metered(tokens, replace(TOKENS, status="succeeded", trained_tokens=8000))
    assert (billed.cost, billed.is_estimate) == (0.261, False)


@pytest.mark.parametrize("amount", ["", ".", "x", "9" * 400])
def test_bill_without_a_sensible_amount_is_not_taken(amount: str) -> None:
    found = usage((0.0, f"Training tokens billed: {amount}"))
    assert found.billed_tokens is None or found.billed_tokens < 1e21


def test_pauses_cost_nothing() -> None:
    assert metered(usage(*LIFE), paused_s=1.5 * HOUR).hours == 1.0
    assert metered(usage(*LIFE), paused_s=9 * HOUR).hours == 0.0


def test_whole_cost_is_projected_while_a_job_runs() -> None:
    found = usage(*LIFE)
    assert metered(found, progress=0.25).projected == 1000.0
    assert metered(found, progress=0.0).projected is None
    assert metered(found, progress=None).projected is None
    over = replace(JOB, status="failed", finished_at=4 * HOUR)
    assert metered(found, over, progress=0.5).projected is None


def test_tokens_cost_while_the_job_runs() -> None:
    found = usage(*LIFE, state={"file": [4_000_000, 1000]})
    running = metered(found, TOKENS, progress=0.25)
    # A file of a million tokens, twice; a quarter of the steps is done.
    assert (running.cost, running.projected, running.is_estimate) == (12.5, 50.0, True)
    assert metered(found, TOKENS).projected == 50.0
    counted = metered(found, replace(TOKENS, trained_tokens=400_000), progress=0.25)
    assert (counted.cost, counted.projected) == (10.0, 40.0)
    unknown = replace(TOKENS, hyperparameters={"n_epochs": "auto"})
    assert metered(found, unknown, progress=0.25).cost is None


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"n_epochs": 3, "batch_size": 8}, 375),
        ({"n_epochs": 3, "batch_size": "auto"}, None),
        ({"n_epochs": -1, "batch_size": 0}, None),
        ({}, None),
    ],
    ids=["resolved", "not-resolved", "placeholders", "none"],
)
def test_steps_are_expected_by_rows_batches_and_epochs(
    settings: dict[str, Any], steps: int | None
) -> None:
    found = usage(state={"file": [4_000_000, 1000]})
    assert found.expected_steps(replace(JOB, hyperparameters=settings)) == steps


@pytest.mark.parametrize(
    ("model", "training_type", "price"),
    [
        ("gpt-4.1-mini-2025-04-14", "", "gpt-4.1-mini"),
        ("GPT-4.1-2025-04-14", "Standard", "gpt-4.1"),
        ("gpt-4.1-2025-04-14", "developerTier", "developertier"),
        ("Ministral-3B", "", None),
    ],
    ids=["longest-name", "letter-case", "training-type", "unknown"],
)
def test_price_is_the_one_that_fits_best(model: str, training_type: str, price: str | None) -> None:
    job = replace(JOB, model=model, training_type=training_type)
    assert price_of(job, PRICES) == (PRICES[price] if price else {})


def test_tokens_and_hours_add_up_when_both_have_a_price() -> None:
    job = replace(JOB, model="gpt-4.1-mini", trained_tokens=2_000_000)
    found = usage(*LIFE)
    assert metered(found, job, now=5).cost == 12.0
    assert metered(found, job, progress=0.5, now=5).projected == 24.0
    assert metered(usage(), replace(job, trained_tokens=None)).cost is None
    assert metered(found, job, prices={}).cost is None


async def test_running_job_has_a_cost_and_its_file_is_measured_once() -> None:
    stage = Stage()
    stage.options = RelayOptions(
        prices={"gpt-4o-mini": {"usd_per_1k_tokens": 1.0}},
        alerts=frozenset({"cost"}),
        cost_alert_usd=1.0,
    )
    # Eight rows in batches of four, twice: four steps. Azure's events do not say how many.
    stage.api.files["file-1"] = (b"x" * 999 + b"\n") * 8
    job = body(training_file="file-1", hyperparameters={"n_epochs": 2, "batch_size": 4})
    first = stage.api.put(job, events=[event(1, train_loss=1.0)])
    await stage.tick()
    summary = stage.run.summary
    assert (summary["cost_usd"], summary["cost_usd_projected"]) == (1.0, 4.0)
    assert summary["cost_estimated"] is True
    assert [alert.reason for alert in stage.run.alerts] == ["cost"]
    first.events = [event(2, train_loss=1.0), *first.events]
    stage.now += 60
    await stage.tick()
    assert stage.run.summary["cost_usd"] == 2.0
    assert stage.api.calls.count("describe_file") == 1


async def test_rows_are_estimated_when_the_file_is_large() -> None:
    stage = Stage()
    stage.api.files["file-1"] = (b"x" * 999 + b"\n") * 500
    job = replace(TOKENS, training_file="file-1", hyperparameters={"n_epochs": 1, "batch_size": 1})
    found = Usage()
    await found.measure_file(stage.api, stage.account, job, PRICES)
    steps = found.expected_steps(job)
    assert steps is not None
    assert 480 < steps < 520
    whole = metered(found, job).projected
    assert whole == pytest.approx(0.025 * 500_000 / 4 / 1000)


@pytest.mark.parametrize("content", [b"", b"no line end"], ids=["empty", "one-row"])
async def test_file_of_no_use_gives_no_wrong_estimate(content: bytes) -> None:
    stage = Stage()
    stage.api.files["file-1"] = content
    job = replace(TOKENS, training_file="file-1", hyperparameters={"n_epochs": 1, "batch_size": 1})
    found = Usage()
    await found.measure_file(stage.api, stage.account, job, PRICES)
    assert found.expected_steps(job) == (1 if content else None)


async def test_values_arrive_when_the_file_cannot_be_measured() -> None:
    class Down:
        async def before(self, call: str) -> None:
            if call == "describe_file":
                raise UnavailableError("Azure is down", subject=call)

        async def after(self, call: str) -> None: ...

    stage = Stage()
    stage.options = RelayOptions(prices={"gpt-4o-mini": {"usd_per_1k_tokens": 1.0}})
    stage.api.gate = Down()
    stage.api.put(body(training_file="file-1"), events=[event(1, train_loss=1.0)])
    (outcome,) = await stage.tick()
    assert (outcome.error, len(stage.values())) == ("", 1)
    assert "cost_usd" not in stage.run.summary


async def test_values_do_not_wait_when_the_size_of_the_file_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hangs(FakeJobs):
        async def describe_file(self, account: RelayAccount, file_id: str) -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("finetune_wandb.relay.run.cost._MEASURE_S", 0.05)
    options = RelayOptions(prices={"gpt": {"usd_per_1k_tokens": 1.0}})
    stage = Stage(api=Hangs(), options=options)
    stage.api.put(body(training_file="file-t"), events=[event(1, train_loss=0.5)])
    async with asyncio.timeout(5):
        await stage.tick()
    assert len(stage.values()) == 1
