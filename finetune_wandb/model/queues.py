"""What waits on the app's queues, and what was set aside there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueCount:
    """Messages of one queue, as the service last counted them."""

    name: str
    waiting: int
    """Messages that wait or are worked on."""
    poison: int
    """Messages that failed too often and were set aside."""
