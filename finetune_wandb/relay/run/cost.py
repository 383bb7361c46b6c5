"""How long a job has trained, what it has cost and what it will, by the user's price list.

An estimate from training time and tokens; Azure's invoice is what counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from finetune_wandb.model.job import Job
from finetune_wandb.model.setting_parsers import Prices

AUTO_PAUSE_USD = 5000.0
"""Azure pauses reinforcement jobs at this cost.

Source: MicrosoftDocs fine-tuning-cost-management.md (facts/peers.md, finding 10).
"""


@dataclass(frozen=True, slots=True)
class Meter:
    """Training time and cost of a job so far; None for what is not known."""

    hours: float | None = None
    """As billed once Azure says so; by the clock, without pauses, until then."""
    cost: float | None = None
    """In USD."""
    projected: float | None = None
    """In USD, of the whole job, as long as it goes on at its present pace."""
    paused_s: float = 0.0


def meter(
    job: Job,
    prices: Prices,
    *,
    started_at: float | None,
    billed_hours: float | None,
    paused_s: float,
    progress: float | None,
    now: float,
) -> Meter:
    """Return a job's meter. `progress` is the share of its steps that are done, 0 to 1."""
    hours = training_hours(
        job, started_at=started_at, billed_hours=billed_hours, paused_s=paused_s, now=now
    )
    cost = cost_so_far(job, prices, hours=hours)
    projected = None
    if cost is not None and progress and not job.is_terminal:
        projected = round(cost / progress, 4)
    return Meter(hours, cost, projected, paused_s)


def price_of(job: Job, prices: Prices) -> Mapping[str, float] | None:
    """Return the price for a job: by its training type, else by the longest matching model name."""
    if not prices:
        return None
    if by_type := prices.get(job.training_type.lower()):
        return by_type
    model = job.model.lower()
    matching = [name for name in prices if name and model.startswith(name)]
    return prices[max(matching, key=len)] if matching else None


def training_hours(
    job: Job,
    *,
    started_at: float | None,
    billed_hours: float | None,
    paused_s: float,
    now: float,
) -> float | None:
    """Return the hours trained: as billed once Azure says so, by the clock until then."""
    if billed_hours is not None:
        return billed_hours
    if started_at is None:
        return None
    end = job.finished_at if job.is_terminal and job.finished_at is not None else now
    return max(end - started_at - paused_s, 0.0) / 3600


def cost_so_far(job: Job, prices: Prices, *, hours: float | None) -> float | None:
    """Return the cost in USD, None where no price or nothing to count is known."""
    price = price_of(job, prices)
    if price is None:
        return None
    parts: list[float] = []
    if "usd_per_hour" in price and hours is not None:
        parts.append(price["usd_per_hour"] * hours)
    if "usd_per_1k_tokens" in price and job.trained_tokens is not None:
        parts.append(price["usd_per_1k_tokens"] * job.trained_tokens / 1000)
    return round(sum(parts), 4) if parts else None
