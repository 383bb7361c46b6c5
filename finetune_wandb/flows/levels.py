"""How many jobs and accounts are in which state, said once with each drift pass."""

import logging
from collections import Counter

from finetune_wandb.flows.app import App
from finetune_wandb.flows.outcomes import pairs
from handlers.status import read_situation

log = logging.getLogger(__name__)


async def tell_levels(app: App) -> None:
    """Say the current counts; states that no job is in are said to be 0."""
    situation = await read_situation(app)
    states = Counter(cursor.relay_state for cursor in situation.cursors)
    for state in ("new", "live", "ending", "complete", "parked", "skipped"):
        app.telemetry.level("jobs", states[state], state=state)
    totals = situation.totals()
    app.telemetry.level("accounts", totals["accounts"] - totals["unhealthy"], healthy=True)
    app.telemetry.level("accounts", totals["unhealthy"], healthy=False)
    for count in situation.queues:
        app.telemetry.level("queue.poison", count.poison, queue=count.name)
    said = pairs(
        accounts=totals["accounts"],
        unhealthy=totals["unhealthy"],
        jobs=totals["jobs"],
        jobs_with_error=totals["jobs_with_error"],
        poison=totals["poison"],
    )
    is_bad = totals["unhealthy"] or totals["jobs_with_error"] or totals["poison"]
    log.log(logging.WARNING if is_bad else logging.INFO, "levels: %s", said)
