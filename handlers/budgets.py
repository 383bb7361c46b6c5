"""Time limits of the functions: one that exceeds its limit ends, with the cause in the status.

`functionTimeout` of host.json would end the whole worker process with all other work in it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from finetune_wandb.flows.app import App
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.work import problem_of

HTTP_S: Final = 220.0
"""The platform cuts HTTP answers at 230 seconds."""
EVENT_S: Final = 25.0
"""Event Grid waits 30 seconds for an answer."""
TICK_S: Final = 240.0
DRIFT_S: Final = 480.0
RECONCILE_S: Final = 300.0
RELAY_S: Final = 600.0
"""Above `RelayPorts.budget_s`, after which a pass gives up on jobs that are read too slowly."""
ARTIFACTS_S: Final = 720.0
"""Above the time limit of one upload; the next try logs the rest."""
_REMEDY: Final = "the app retries it; the log shows which service did not answer"


@asynccontextmanager
async def within(seconds: float, app: App, source: str, subject: str) -> AsyncIterator[None]:
    """End work that takes longer, with the cause in the status. Raises UnavailableError then."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        cause = f"took longer than {seconds:.0f} seconds and was ended"
        late = UnavailableError(cause, subject=subject, remedy=_REMEDY)
        await app.problems.note(problem_of(late, source))
        raise late from error
