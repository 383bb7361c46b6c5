"""Failures that keep the host from starting, each with the exit code it ends in."""


class HostError(Exception):
    """The host cannot start; the text says what is wrong and where to put it right."""

    exit_code = 1


class ConfigError(HostError):
    """A settings file, host.json or a binding says something the host cannot follow."""

    exit_code = 2


class IndexingError(HostError):
    """The worker library refused the app."""

    exit_code = 1


class PortTakenError(HostError):
    """Another process listens on the wanted port."""

    exit_code = 3
