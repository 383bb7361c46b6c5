"""Failures of the commands in this package that people must act on."""


class StackError(Exception):
    """The local stack cannot start or go on; the text says why and what to do."""
