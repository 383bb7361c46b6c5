"""Which alerts a job is due: each reason once per job, none about long ago."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from finetune_wandb.model.job import Job
from finetune_wandb.relay.options import RelayOptions
from finetune_wandb.relay.run.cost import AUTO_PAUSE_USD

_NEAR_PAUSE = 0.9
_LEAST_SILENCE_S = 600.0
_RECENT_S = 86_400.0
_DIVERGED = 3.0


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert for people. `reason` is unique in a job; `kind` is its name in ALERTS."""

    kind: str
    reason: str
    title: str
    text: str
    level: str = "WARN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What alerts are decided by. Times are unix seconds, cost is in USD."""

    now: float
    previous_status: str
    first_value_at: float | None
    last_value_at: float | None
    value_seen_at: float | None
    """When the relay last met a new value: silence counts from there, whatever Azure's clock says
    and however old the job was when it was first seen."""
    steps: int
    """How many steps have values."""
    first_loss: float | None
    lowest_loss: float | None
    last_loss: float | None
    not_finite: bool
    """A value that is not a number was published."""
    cost: float | None


def due_alerts(
    job: Job, facts: Facts, options: RelayOptions, raised: Collection[str]
) -> list[Alert]:
    """Return the alerts that are switched on and were not raised for this job before."""
    return [
        alert
        for alert in _alerts(job, facts, options)
        if alert.kind in options.alerts and alert.reason not in raised
    ]


def _alerts(job: Job, facts: Facts, options: RelayOptions) -> Iterator[Alert]:
    name = job.suffix or job.id
    ended_at = job.finished_at if job.is_terminal else None
    if ended_at is not None and facts.now - ended_at >= _RECENT_S:
        return  # relayed late, or once more: nobody can do anything about it now
    if job.status == "failed":
        cause = ": ".join(part for part in (job.error_code, job.error_message) if part)
        yield Alert(
            "failed", "failed", f"{name} failed"[:63], cause or "Azure gave no reason.", "ERROR"
        )
    if facts.not_finite or _diverging(facts):
        what = "a value that is not a number" if facts.not_finite else "a training loss that grows"
        yield Alert(
            "diverging",
            "diverging",
            f"{name} diverges"[:63],
            f"The job published {what}. Consider cancelling it and lowering the learning rate.",
        )
    if job.status == "running" and (silence := _silence(facts)) is not None:
        usual = _interval(facts)
        if silence > max(options.stall_factor * usual, _LEAST_SILENCE_S):
            yield Alert(
                "stalled",
                "stalled",
                f"{name} is stalled"[:63],
                f"No new value for {silence / 60:.0f} minutes; usual are {usual:.0f} seconds.",
            )
    yield from _money(job, facts, options, name)


def _money(job: Job, facts: Facts, options: RelayOptions, name: str) -> Iterator[Alert]:
    cost = facts.cost
    if cost is not None and options.cost_alert_usd and cost >= options.cost_alert_usd:
        yield Alert(
            "cost",
            "cost",
            f"{name} passed {options.cost_alert_usd:.0f} USD"[:63],
            f"By the price list it has cost {cost:.2f} USD so far.",
        )
    if job.method != "reinforcement" or job.is_terminal:
        return
    if cost is not None and cost >= _NEAR_PAUSE * AUTO_PAUSE_USD and job.status != "paused":
        yield Alert(
            "pause",
            "pause:near",
            f"{name} will be paused soon"[:63],
            f"It has cost about {cost:.0f} USD; Azure pauses reinforcement jobs at"
            f" {AUTO_PAUSE_USD:.0f} USD. After a resume there is no further cap.",
        )
    if job.is_paused:
        yield Alert(
            "pause",
            "pause:paused",
            f"{name} is paused"[:63],
            f"Azure pauses reinforcement jobs at {AUTO_PAUSE_USD:.0f} USD; somebody may also have"
            " paused it. It goes on once it is resumed.",
        )
    if facts.previous_status in ("paused", "resuming") and job.status == "running":
        yield Alert(
            "pause",
            "pause:resumed",
            f"{name} was resumed"[:63],
            "The job goes on after a pause. Azure does not pause it for its cost again.",
        )


def _diverging(facts: Facts) -> bool:
    first, low, last = facts.first_loss, facts.lowest_loss, facts.last_loss
    if first is None or low is None or last is None or low <= 0:
        return False
    return last > _DIVERGED * low and last > _DIVERGED * first


def _interval(facts: Facts) -> float:
    first, last = facts.first_value_at, facts.last_value_at
    if first is None or last is None or facts.steps < 2:
        return 0.0
    return max(last - first, 0.0) / (facts.steps - 1)


def _silence(facts: Facts) -> float | None:
    return None if facts.value_seen_at is None else max(facts.now - facts.value_seen_at, 0.0)
