"""A W&B artifact of a finished job: its files and their digests, and the port that logs it."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson

from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import RunKey

_ANYTHING: Final = {
    "wb_type": "union",
    "params": {"allowed_types": [{"wb_type": "any"}, {"wb_type": "none"}]},
}


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact; `Artifact.fetch` may fill its path later."""

    name: str
    """Path inside the artifact."""
    md5: str
    """Base64."""
    size: int
    content: bytes | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One version of an artifact: the same files are the same version."""

    name: str
    type: str
    files: tuple[ArtifactFile, ...]
    metadata: Mapping[str, Any]
    used: bool = False
    """The run used it; otherwise the run produced it."""
    fetch: Callable[[], Awaitable[object]] | None = None
    """Fills the files' paths; called only if W&B does not have this version."""


class ArtifactPort(Protocol):
    """Logs artifacts to runs that exist. The run's state, config and summary stay as they are."""

    async def log(self, run: RunPath, artifact: Artifact, *, key: RunKey) -> None:
        """Log an artifact; a no-op if the run has it. Raises our errors."""
        ...


class Copy:
    """Computes digest and size of a streamed file, and writes it to the target, if any."""

    def __init__(self, target: IO[bytes] | None = None) -> None:
        self.size = 0
        self._target = target
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5()
        self._ends = 0
        self._last = b"\n"

    def take(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._md5.update(chunk)
        self.size += len(chunk)
        self._ends += chunk.count(b"\n")
        self._last = chunk[-1:] or self._last
        if self._target is not None:
            self._target.write(chunk)

    @property
    def lines(self) -> int:
        return self._ends + (self._last != b"\n")

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def file(self, name: str, content: bytes | Path) -> ArtifactFile:
        """Return the copy as a file of an artifact."""
        return ArtifactFile(name, encoded(self._md5), self.size, content)


def encoded(digest: "hashlib._Hash") -> str:
    """Return a digest as W&B's API takes it."""
    return base64.b64encode(digest.digest()).decode()


def json_file(name: str, value: Mapping[str, Any]) -> ArtifactFile:
    """Return a small file of an artifact."""
    content = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    copy = Copy()
    copy.take(content)
    return copy.file(name, content)


def table_file(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], path: Path
) -> ArtifactFile:
    """Write rows to `path` as W&B's table `name`.

    Source: `wandb.Table` with mixed types, as wandb 0.31.0 writes it.
    """
    types = {"wb_type": "typedDict", "params": {"type_map": dict.fromkeys(columns, _ANYTHING)}}
    head = {"_type": "table", "column_types": types, "columns": list(columns)}
    count = 0
    with path.open("wb") as target:
        copy = Copy(target)
        copy.take(orjson.dumps(head)[:-1] + b',"data":[')
        for count, row in enumerate(rows, start=1):
            copy.take((b"," if count > 1 else b"") + orjson.dumps(row))
        tail = {"log_mode": "IMMUTABLE", "ncols": len(columns), "nrows": count}
        copy.take(b"]," + orjson.dumps(tail)[1:])
    return copy.file(f"{name}.table.json", path)
