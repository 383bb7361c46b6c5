"""What people see: one plain line per happening, and a bar while a job trains.

On a terminal the bar moves; into a pipe or a file it becomes a line every few seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

_LINE_EVERY_S: Final = 3.0


class Bar:
    """Progress of one training: step, values published, values in W&B, lag in seconds."""

    def __init__(self, console: Console, steps: int, progress: Progress | None) -> None:
        self._console = console
        self._steps = steps
        self._progress = progress
        self._task = progress.add_task("", total=steps, figures="") if progress else None
        self._said_at = 0.0

    def show(self, step: int, published: int, relayed: int, lag_s: float | None) -> None:
        """Show where things stand."""
        lag = "" if lag_s is None else f", lag {lag_s:.1f} s"
        figures = f"{published} values published, {relayed} in W&B{lag}"
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=step, description=f"step {step}", figures=figures
            )
        elif time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            self._console.print(
                f"         step {step:>3} of {self._steps}: {figures}", soft_wrap=True
            )


class Screen:
    """Writes to standard output; times are seconds since it was made."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._began = time.monotonic()
        self._acts = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def act(self, title: str) -> None:
        """Begin a new part of the story."""
        self._acts += 1
        self.console.print(f"\n[bold cyan]{self._acts}. {escape(title)}[/]", soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Say one thing."""
        stamp = f"[dim]{self.seconds:5.1f} s[/]"
        text = escape(text)
        self.console.print(
            f"{stamp}  [{style}]{text}[/]" if style else f"{stamp}  {text}", soft_wrap=True
        )

    def good(self, text: str) -> None:
        self.say(f"✓ {text}", "green")

    def bad(self, text: str) -> None:
        self.say(f"✗ {text}", "bold red")

    def raw(self, text: str) -> None:
        """Print text as it is, for people to copy."""
        self.console.print(escape(text), soft_wrap=True)

    @contextmanager
    def training(self, steps: int) -> Iterator[Bar]:
        """Show a training of so many steps while it goes on; lines may be said meanwhile."""
        if not self.console.is_terminal:
            yield Bar(self.console, steps, None)
            return
        columns = (
            TextColumn("         {task.description:<9}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Bar(self.console, steps, progress)
