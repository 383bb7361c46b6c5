"""The meter: hours trained, cost so far and projected, by the user's price list."""

from dataclasses import replace
from typing import Any

import pytest

from finetune_wandb.model.job import Job
from finetune_wandb.model.setting_parsers import Prices
from finetune_wandb.relay.run.cost import cost_so_far, meter, price_of

HOUR = 3600.0
JOB = Job("ftjob-1", "running", model="o4-mini-2025-04-16", created_at=0.0)
PRICES: Prices = {
    "o4-mini": {"usd_per_hour": 100.0},
    "gpt-4.1": {"usd_per_1k_tokens": 0.025},
    "gpt-4.1-mini": {"usd_per_1k_tokens": 0.005, "usd_per_hour": 1.0},
    "developertier": {"usd_per_1k_tokens": 0.001},
}


def metered(job: Job = JOB, prices: Prices = PRICES, **more: Any) -> Any:
    given = {"started_at": HOUR, "billed_hours": None, "paused_s": 0.0, "progress": None}
    return meter(job, prices, **{**given, "now": 3.5 * HOUR, **more})


def test_hours_are_by_the_clock_while_a_job_runs() -> None:
    assert metered().hours == 2.5
    assert metered().cost == 250.0


def test_hours_end_with_the_job_when_it_is_over() -> None:
    over = replace(JOB, status="succeeded", finished_at=2 * HOUR)
    assert metered(over).hours == 1.0


def test_hours_are_those_billed_when_azure_has_said_them() -> None:
    assert metered(billed_hours=24.75).cost == 2475.0


def test_pauses_cost_nothing() -> None:
    assert metered(paused_s=1.5 * HOUR).hours == 1.0
    assert metered(paused_s=9 * HOUR).hours == 0.0


def test_nothing_is_known_before_training_starts() -> None:
    assert metered(started_at=None).hours is None
    assert metered(started_at=None).cost is None


def test_whole_cost_is_projected_while_a_job_runs() -> None:
    assert metered(progress=0.25).projected == 1000.0
    assert metered(progress=0.0).projected is None
    assert metered(progress=None).projected is None
    over = replace(JOB, status="failed", finished_at=2 * HOUR)
    assert metered(over, progress=0.5).projected is None


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
    assert price_of(job, PRICES) == (PRICES[price] if price else None)


def test_tokens_and_hours_add_up_when_both_have_a_price() -> None:
    job = replace(JOB, model="gpt-4.1-mini", trained_tokens=2_000_000)
    assert cost_so_far(job, PRICES, hours=2.0) == 12.0
    assert cost_so_far(replace(job, trained_tokens=None), PRICES, hours=None) is None
    assert cost_so_far(job, {}, hours=2.0) is None
