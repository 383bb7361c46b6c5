"""Which ports the local stack uses: from the environment, or free ones for tests and benches.

Azurite takes three in a row: `AZURITE_PORT` for blobs, the next two for queues and tables.
"""

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from dev.tools.processes import StackError

_DEFAULTS = {"SANDBOX_PORT": 7700, "SANDBOX_WANDB_PORT": 7701, "HOST_PORT": 7071}
_AZURITE_DEFAULT = 10000
# Below the range from which systems hand out ports to outgoing connections, so that none of
# those takes a port between the look and the start.
_FREE_RANGE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one stack; `azurite` is the first of three."""

    sandbox: int
    wandb: int
    host: int
    azurite: int

    def environ(self) -> dict[str, str]:
        """Return the ports as the environment variables that carry them."""
        return {
            "SANDBOX_PORT": str(self.sandbox),
            "SANDBOX_WANDB_PORT": str(self.wandb),
            "HOST_PORT": str(self.host),
            "AZURITE_PORT": str(self.azurite),
        }

    def check_free(self) -> None:
        """Raise StackError naming the first port that is taken and the variable that moves it."""
        wanted = [
            (self.sandbox, "SANDBOX_PORT", "the sandbox's Azure side"),
            (self.wandb, "SANDBOX_WANDB_PORT", "the sandbox's W&B side"),
            (self.host, "HOST_PORT", "the Functions host"),
            (self.azurite, "AZURITE_PORT", "Azurite blobs"),
            (self.azurite + 1, "AZURITE_PORT", "Azurite queues, which follow its blob port"),
            (self.azurite + 2, "AZURITE_PORT", "Azurite tables, which follow its blob port"),
        ]
        for port, variable, use in wanted:
            if not _is_free(port):
                raise StackError(
                    f"port {port} ({use}) is taken; stop what listens there, "
                    f"or set {variable} to another port"
                )


def from_environ(environ: Mapping[str, str]) -> Ports:
    """Read the ports, or their defaults. Raises StackError naming a malformed variable."""
    sandbox, wandb, host = (_read(environ, name, default) for name, default in _DEFAULTS.items())
    return Ports(sandbox, wandb, host, _read(environ, "AZURITE_PORT", _AZURITE_DEFAULT))


def free() -> Ports:
    """Choose six free ports at random. Raises StackError when the machine has none."""
    for _ in range(200):
        # One block: two stacks that choose at once collide seldom, and then on every port.
        base = random.choice(_FREE_RANGE)
        if all(_is_free(base + offset) for offset in range(6)):
            return Ports(sandbox=base, wandb=base + 1, host=base + 2, azurite=base + 3)
    raise StackError("no six free ports in a row on this machine")


def _read(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65_534:
        raise StackError(f"{name} is not a port number: {text!r}")
    return int(text)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port whose last owner just closed it is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
