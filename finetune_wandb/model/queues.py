"""The app's queues by name, and how full they are."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

RECONCILE: Final = "reconcile-accounts"
RELAY: Final = "relay-jobs"
BACKFILL: Final = "backfill-jobs"
"""Jobs that were over when they were first seen, and re-syncs: live jobs never wait for them."""
ARTIFACTS: Final = "job-artifacts"
QUEUES: Final = (RECONCILE, RELAY, BACKFILL, ARTIFACTS)


@dataclass(frozen=True, slots=True)
class QueueCount:
    """Messages of one queue, as the service last counted them."""

    name: str
    waiting: int
    """Messages that wait or are being worked on."""
    poison: int
    """Messages that failed too often and were set aside."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A message in a poison queue."""

    queue: str
    """The queue that it was on before."""
    body: bytes
    remove: Callable[[], Awaitable[None]]
    """Take it out of the poison queue."""
