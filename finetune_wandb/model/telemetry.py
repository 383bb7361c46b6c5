"""What the app says about its own work to whoever watches it; nothing while that is off."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Attribute = str | int | float | bool


class Span(Protocol):
    """A piece of work that is going on."""

    def note(self, **attributes: Attribute) -> None:
        """Add what came of it."""
        ...

    def fail(self, reason: str) -> None:
        """Mark it as failed: failures are never sampled away."""
        ...


class Telemetry(Protocol):
    """Spans and metrics. Names and attributes are listed in docs/operations.md."""

    def span(self, name: str, **attributes: Attribute) -> AbstractContextManager[Span]:
        """Time a piece of work; an exception marks it as failed."""
        ...

    def count(self, name: str, value: int, **attributes: Attribute) -> None:
        """Add to a sum."""
        ...

    def measure(self, name: str, value: float, **attributes: Attribute) -> None:
        """Add to a distribution."""
        ...

    def level(self, name: str, value: int, **attributes: Attribute) -> None:
        """Say how many there are now."""
        ...


class _SilentSpan:
    def note(self, **attributes: Attribute) -> None:
        """Nobody listens."""

    def fail(self, reason: str) -> None:
        """Nobody listens."""


_SILENT = _SilentSpan()


class NoTelemetry:
    """Telemetry that is off."""

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        yield _SILENT

    def count(self, name: str, value: int, **attributes: Attribute) -> None:
        """Nobody listens."""

    def measure(self, name: str, value: float, **attributes: Attribute) -> None:
        """Nobody listens."""

    def level(self, name: str, value: int, **attributes: Attribute) -> None:
        """Nobody listens."""
