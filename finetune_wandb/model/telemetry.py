"""Spans, metrics and log lines of the app's own work; spans and metrics are exported only where
telemetry is on.

A line about a piece of work has the form `job ID: state=… values=…`. It holds ids and codes only,
never a secret. The alert rules in infra/ search for the start of these lines.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

Attribute = str | int | float | bool
_QUIET: Final = ("", None)


class Span(Protocol):
    """A piece of work in progress."""

    def note(self, **attributes: Attribute) -> None:
        """Add attributes of its result."""
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
        """Record a current count."""
        ...


class NoTelemetry:
    """Telemetry, and its spans, while it is off."""

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        yield self

    def note(self, **attributes: Attribute) -> None: ...

    def fail(self, reason: str) -> None: ...

    def count(self, name: str, value: int, **attributes: Attribute) -> None: ...

    def measure(self, name: str, value: float, **attributes: Attribute) -> None: ...

    def level(self, name: str, value: int, **attributes: Attribute) -> None: ...


def pairs(**values: object) -> str:
    """Return values as `name=value` pairs without the empty ones; values with blanks in quotes."""
    return " ".join(f"{name}={_text(one)}" for name, one in values.items() if one not in _QUIET)


def _text(value: object) -> str:
    text = " ".join(str(value).replace('"', "'").split())
    return f'"{text}"' if not text or " " in text or "=" in text else text
