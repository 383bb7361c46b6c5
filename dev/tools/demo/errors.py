"""Failures of the demo that people must act on."""


class StoryError(Exception):
    """The story cannot go on; the text says what is missing and where to look."""
