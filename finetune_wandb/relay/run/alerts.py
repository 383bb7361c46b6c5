"""Which alerts a job is due, and raising them: each reason once per job, none about long ago.

An alert has two halves, the W&B alert on the run and the notice on the topic. Each is raised once:
what the one service does not take now is tried again without troubling the other.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from finetune_wandb.model.errors import AppError, DeniedError, TemporaryError
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import Job
from finetune_wandb.model.relay.ports import RunAlert
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.ports import PassContext, RelayOptions, joined_notes
from finetune_wandb.relay.run.cost import AUTO_PAUSE_USD
from finetune_wandb.relay.run.summary import PAIRS, Summary

_MAX_TITLE: Final = 63
_MAX_NAME: Final = 40
"""W&B drops an alert whose title it has just had: a long name must not cut off what differs."""
_NEAR_PAUSE: Final = 0.9
_LEAST_SILENCE_S: Final = 600.0
_FIRST_VALUE_S: Final = 7200.0
"""Imports and the wait for GPUs take up to an hour, the first step of a large model another."""
_RECENT_S: Final = 86_400.0
_DIVERGED: Final = 3.0
_PATIENCE: Final = 3
"""So many validations without a better one before a gap to training counts."""
_WIDE_LOSS: Final = 1.5
_WIDE_REWARD: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What alerts are decided by. Times are unix seconds, cost is in USD."""

    now: float
    previous_status: str
    summary: Summary
    last_value_at: float | None
    value_seen_at: float | None
    """When the relay last met a new value, or one of a step that is trained again: silence counts
    from there, whatever Azure's clock says and however old the job was when it was first seen."""
    steps: int
    """How many steps have values."""
    cost: float | None


def due_alerts(
    job: Job, facts: Facts, options: RelayOptions, raised: Collection[str]
) -> list[RunAlert]:
    """Return the alerts that are switched on and of which a half was not raised before."""
    return [
        alert
        for alert in _alerts(job, facts, options)
        if alert.kind in options.alerts and not {alert.reason, _on_topic(alert)} <= set(raised)
    ]


def _on_topic(alert: RunAlert) -> str:
    """Return what the notice of an alert is remembered by; the W&B alert is by its reason."""
    return f"{alert.reason}@topic"


def _alerts(job: Job, facts: Facts, options: RelayOptions) -> Iterator[RunAlert]:
    name = (job.suffix or job.id)[:_MAX_NAME]
    ended_at = job.finished_at if job.is_terminal else None
    if ended_at is not None and facts.now - ended_at >= _RECENT_S:
        return  # relayed late, or once more: it is too late to act
    if job.status == "failed":
        yield _alert(
            "failed", f"{name} failed", job.reason or "Azure gave no reason.", level="ERROR"
        )
    if cause := _divergence(job, facts.summary):
        advice = "Consider cancelling it and lowering the learning rate."
        yield _alert("diverging", f"{name} diverges", f"The job published {cause}. {advice}")
    if job.status == "running":
        yield from _silence(job, facts, options, name)
    for gap in _gaps(job, facts.summary):
        yield _alert("gap", f"{name} may be overfitting", gap)
    yield from _money(job, facts, options, name)


def _alert(kind: str, title: str, text: str, *, part: str = "", level: str = "WARN") -> RunAlert:
    """Return an alert; `part` tells those of one kind apart."""
    return RunAlert(kind, f"{kind}:{part}" if part else kind, title[:_MAX_TITLE], text, level)


def _money(job: Job, facts: Facts, options: RelayOptions, name: str) -> Iterator[RunAlert]:
    cost, most = facts.cost, options.cost_alert_usd
    if cost is not None and most and cost >= most:
        text = f"By the price list it has cost about {cost:.2f} USD so far."
        yield _alert("cost", f"{name} passed {most:.0f} USD", text)
    if not job.is_reinforcement or job.is_terminal:
        return
    if cost is not None and cost >= _NEAR_PAUSE * AUTO_PAUSE_USD and job.status != "paused":
        text = (
            f"It has cost about {cost:.0f} USD; Azure pauses reinforcement jobs at"
            f" {AUTO_PAUSE_USD:.0f} USD. After a resume there is no further cap."
        )
        yield _alert("pause", f"{name} will be paused soon", text, part="near")
    if job.is_paused:
        text = (
            f"Azure pauses reinforcement jobs at {AUTO_PAUSE_USD:.0f} USD; a person may"
            " also have paused it. It goes on once it is resumed."
        )
        yield _alert("pause", f"{name} is paused", text, part="paused")
    if facts.previous_status in ("paused", "resuming") and job.status == "running":
        text = "The job goes on after a pause. Azure does not pause it for its cost again."
        yield _alert("pause", f"{name} was resumed", text, part="resumed")


def _divergence(job: Job, summary: Summary) -> str:
    if summary.not_finite:
        return "a value that is not a number"
    first, low, last = summary.losses
    # The loss of a reinforcement job is its policy's, and crosses zero all the time.
    if first is None or low is None or last is None or low <= 0 or job.is_reinforcement:
        return ""
    grows = last > _DIVERGED * low and last > _DIVERGED * first
    return "a training loss that grows" if grows else ""


def _silence(job: Job, facts: Facts, options: RelayOptions, name: str) -> Iterator[RunAlert]:
    if not facts.steps:
        usage = facts.summary.usage
        began = filter(None, (facts.summary.running_at, usage.last_phase_at))
        silence = facts.now - max(began, default=facts.now)
        if silence > _FIRST_VALUE_S:
            phase = usage.queue_state(job) or "training"
            text = f"No value yet, and no news for {silence / 3600:.0f} hours; phase: {phase}."
            yield _alert("stalled", f"{name} has no value yet", text, part="no_value")
    elif facts.value_seen_at is not None:
        # After a pause the job waits for a GPU first.
        since = max(facts.value_seen_at, facts.summary.running_at or 0.0)
        silence, usual = facts.now - since, 0.0
        first, last = facts.summary.first_value_at, facts.last_value_at
        if first is not None and last is not None and facts.steps > 1:
            usual = max(last - first, 0.0) / (facts.steps - 1)
        if silence > max(options.stall_factor * usual, _LEAST_SILENCE_S):
            text = (
                f"No new value for {silence / 60:.0f} minutes; the usual interval is {usual:.0f} s."
            )
            yield _alert("stalled", f"{name} is stalled", text)


def _gaps(job: Job, summary: Summary) -> Iterator[str]:
    """Yield what has come apart between training and validation: validation has not improved for
    some time, and is clearly worse than training."""
    for word, train, valids in PAIRS:
        valid = next((name for name in valids if summary.recent.get(name)), None)
        if train not in summary.recent or valid is None:
            continue
        if word == "loss" and job.is_reinforcement:
            continue
        best_step, best = summary.best[valid]
        later = [value for step, value in summary.recent[valid] if step > best_step]
        if len(later) < _PATIENCE:
            continue
        now = median(later[-_PATIENCE:])
        trained = median(value for _, value in summary.recent[train])
        if word == "loss":
            is_wide = now > _WIDE_LOSS * trained
        else:
            is_wide = trained - now > _WIDE_REWARD * abs(trained)
        if is_wide:
            yield (
                f"{valid} is {now:.4g} while {train} is {trained:.4g}; its best was {best:.4g} at"
                f" step {best_step}. Consider the checkpoint before it, or fewer epochs."
            )


async def raise_alerts(
    job: Job,
    cursor: Cursor,
    memory: Memory,
    context: PassContext,
    *,
    previous_status: str,
) -> None:
    """Raise the alerts that are due, on the run and as notices.

    What cannot be raised now is due again later.
    """
    run, now, summary = cursor.run, context.clock(), memory.summary
    assert run is not None, "only a job with a run has alerts"
    if job.status != "running":
        summary.running_at = None
    elif summary.running_at is None:
        summary.running_at = now
    facts = Facts(
        now=now,
        previous_status=previous_status,
        summary=summary,
        last_value_at=cursor.last_value_at,
        value_seen_at=memory.value_seen_at,
        steps=cursor.rows,
        cost=memory.meter(job, context.options.prices, now).cost,
    )
    ports, account = context.ports, context.account
    for alert in due_alerts(job, facts, context.options, memory.alerted):
        on_run = partial(ports.sink.alert, run, alert, key=context.key)
        on_topic = partial(ports.tell, account, job, run, alert, now)
        for mark, place, send in (
            (alert.reason, "W&B", on_run),
            (_on_topic(alert), "the topic", on_topic),
        ):
            if mark in memory.alerted:
                continue
            problem = f"alert {alert.reason} could not be raised in {place}"
            notes = [note for note in cursor.notes if not note.startswith(problem)]
            is_done = True
            try:
                await send()
            except AppError as error:
                # Values must not wait for an alert that cannot be delivered.
                notes.append(f"{problem}: {error.message}")
                is_done = not isinstance(error, TemporaryError | DeniedError)  # rights may come
            cursor.notes = joined_notes((), notes)
            if is_done:
                memory.alerted.append(mark)
                # At once: a pass that fails after this must not raise it again.
                memory.put_into(cursor)
