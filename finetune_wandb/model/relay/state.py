"""The states of a relayed job, and the one table of how each state follows another.

What survives a crash in each state is in docs/crash.md.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RelayState(StrEnum):
    """A job's state. Stored with its cursor and shown in the status answer."""

    NEW = "new"
    """Seen; nothing is in W&B yet, or its run was lost and is written again."""
    LIVE = "live"
    """Its run is kept up to date."""
    ENDING = "ending"
    """The job is over and its run has ended; the app still looks for late values."""
    COMPLETE = "complete"
    """Nothing is read again without a forced re-sync."""
    PARKED = "parked"
    """Set aside with a cause; retried, ever more rarely."""
    SKIPPED = "skipped"
    """Left to the job's own W&B integration."""
    DETACHED = "detached"
    """Job or account is gone or out of scope. The run has ended with the cause; it goes on when
    the job is listed again."""


class Happened(StrEnum):
    """The result of one pass over a job."""

    RELAYED = "relayed"
    """What was published is in the run; the job continues."""
    ENDED = "ended"
    """The run has its end; another look is due."""
    SETTLED = "settled"
    """The last look at an ended job brought nothing more."""
    REFUSED = "refused"
    """A service refused for a reason that only a person can fix."""
    RUN_LOST = "run lost"
    """W&B has the run no longer."""
    NATIVE = "native"
    """The job carries its own integration and the settings leave it alone."""
    GONE = "gone"
    """Job or account was deleted or left the scope."""


_ANY: Final = {
    Happened.ENDED: RelayState.ENDING,
    Happened.REFUSED: RelayState.PARKED,
    Happened.RUN_LOST: RelayState.NEW,
    Happened.NATIVE: RelayState.SKIPPED,
}
_OPEN: Final = _ANY | {
    Happened.RELAYED: RelayState.LIVE,
    Happened.GONE: RelayState.DETACHED,
}
_OVER: Final = _ANY | {
    Happened.SETTLED: RelayState.COMPLETE,
    # The run has its end already, and what is gone cannot add to it.
    Happened.GONE: RelayState.COMPLETE,
}

TRANSITIONS: Final[Mapping[RelayState, Mapping[Happened, RelayState]]] = {
    RelayState.NEW: _OPEN,
    RelayState.LIVE: _OPEN,
    # A job can be parked before its end and after it.
    RelayState.PARKED: _OPEN | {Happened.SETTLED: RelayState.COMPLETE},
    RelayState.DETACHED: _OPEN,
    RelayState.SKIPPED: _OPEN | {Happened.GONE: RelayState.SKIPPED},
    RelayState.ENDING: _OVER,
    # Only a forced re-sync looks at a complete job again.
    RelayState.COMPLETE: _OVER,
}

CLOSED: Final = frozenset({RelayState.COMPLETE, RelayState.SKIPPED})
"""States in which a listed job needs no pass."""
