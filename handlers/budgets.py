"""How long each function may take: it ends by itself, and its cause is in the status.

`functionTimeout` of host.json would end the whole worker process, and everything that runs in it.
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
"""Above `RelayPorts.budget_s`, in which a pass itself gives up on jobs that are read too slowly."""
ARTIFACTS_S: Final = 720.0
"""Above what one upload may take; what is not logged by then is left to the next try."""
_REMEDY: Final = "it is tried again; look at the app's log for the service that did not answer"


@asynccontextmanager
async def within(seconds: float, app: App, source: str, subject: str) -> AsyncIterator[None]:
    """End work that takes longer, with its cause in the status. Raises UnavailableError then."""
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
