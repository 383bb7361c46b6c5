"""Notes on a job: what could not be used of what Azure published, for people to read."""

import re
from collections.abc import Sequence
from typing import Final

_NUMBER: Final = re.compile(r"\b[0-9]+\b")
_MOST: Final = 20


def joined_notes(known: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Return all notes; of those that differ only in their numbers, the newest."""
    notes = {_NUMBER.sub("", note): note for note in (*known, *more)}
    return tuple(notes.values())[-_MOST:]
