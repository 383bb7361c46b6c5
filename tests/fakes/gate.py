"""Faults of a fake: a gate sees every call before and after its effect."""

from typing import Protocol


class Gate(Protocol):
    """Sees every call; may raise, wait, or let it pass."""

    async def before(self, call: str) -> None:
        """Come before the effect: an error here means that nothing happened."""

    async def after(self, call: str) -> None:
        """Come after the effect: an error here means that the answer was lost."""


class Open:
    """A gate that lets everything pass."""

    async def before(self, call: str) -> None:
        """Let it pass."""

    async def after(self, call: str) -> None:
        """Let it pass."""


class Once(Open):
    """Raises each listed error once, at the first call of that name."""

    def __init__(self, **errors: Exception) -> None:
        """Names are calls, with `lost_` before them for an answer that is lost."""
        self.errors = errors

    async def before(self, call: str) -> None:
        if error := self.errors.pop(call, None):
            raise error

    async def after(self, call: str) -> None:
        if error := self.errors.pop(f"lost_{call}", None):
            raise error
