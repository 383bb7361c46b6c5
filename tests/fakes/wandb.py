"""W&B in memory: runs with write-at-offset, keys and whose they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from finetune_wandb.model.accounts.key import KeyOwner, WriteRight
from finetune_wandb.model.errors import DeniedError, MissingError, RejectedError
from finetune_wandb.model.relay.artifact import Artifact
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import EnsuredRun, RunAlert, RunAttributes, RunKey, RunSeen
from finetune_wandb.model.secret import Secret, SecretRef
from tests.fakes.gate import Gate, Open
from tests.fakes.nouns import KEY, PLACE

if TYPE_CHECKING:
    from tests.fakes.world import World


@dataclass
class FakeRun:
    """What W&B holds of a run."""

    attributes: RunAttributes
    state: str = "running"
    exitcode: int | None = None
    slots: list[str | None] = field(default_factory=list)
    lines: list[str | None] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    posts: int = 0
    finishes: int = 0
    stopped: bool = False
    alerts: list[RunAlert] = field(default_factory=list)
    is_relayed: bool = True

    @property
    def history(self) -> list[dict[str, Any]]:
        """Rows in order; bare infinities as Python floats."""
        return [json.loads(line) for line in self.slots if line is not None]

    @property
    def output(self) -> list[str]:
        return [line for line in self.lines if line is not None]


class FakeSink:
    """SinkPort over dictionaries, with W&B's write-at-offset."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate: Gate = gate or Open()
        self.runs: dict[str, FakeRun] = {}
        self.deleted: set[str] = set()
        self.refused: set[str] = set()
        """Values of keys that W&B does not accept."""
        self.closed: set[str] = set()
        """Projects, as `entity/project`, that no key may write to."""
        self.entities: set[str] = set()
        """Entities that W&B knows; empty: all."""
        self.hidden: set[str] = set()
        """Runs that exist and that a reader does not see."""
        self.calls: list[str] = []

    def delete(self, run: str) -> None:
        """Remove a run as a person does in the web page."""
        del self.runs[run]
        self.deleted.add(run)

    async def ensure_run(
        self,
        run: RunPath,
        attributes: RunAttributes,
        *,
        is_new: bool,
        pending: bool,
        key: RunKey,
    ) -> EnsuredRun:
        await self._through("ensure_run", run, key)
        if self.entities and run.entity not in self.entities:
            raise RejectedError("W&B knows no such entity", subject=str(run), code="entity")
        if str(run) in self.deleted:
            raise RejectedError("the run was deleted", subject=str(run), code="deleted")
        # What travels is JSON; what cannot must fail here as it would there.
        orjson.dumps(attributes)
        inserted = str(run) not in self.runs
        unnamed = replace(attributes, display_name="", notes="")
        known = self.runs.setdefault(str(run), FakeRun(unnamed))
        named = attributes if is_new else known.attributes
        known.attributes = replace(
            attributes,
            display_name=named.display_name,
            notes=named.notes,
            tags=attributes.tags or known.attributes.tags,
        )
        if pending:
            known.state = "pending"
        await self.gate.after("ensure_run")
        return EnsuredRun(run, inserted)

    async def read_run(self, run: RunPath, *, key: RunKey) -> RunSeen | None:
        await self._through("read_run", run, key)
        known = self.runs.get(str(run))
        await self.gate.after("read_run")
        if known is None or str(run) in self.hidden:
            return None
        return RunSeen(
            known.state,
            len(known.slots),
            len(known.lines),
            dict(known.summary),
            dict(known.attributes.config),
            known.attributes.tags,
            known.is_relayed,
        )

    async def post(self, run: RunPath, body: bytes, *, key: RunKey) -> bool:
        await self._through("post", run, key)
        known = self._run(run)
        request = orjson.loads(body)
        for name, chunk in request.get("files", {}).items():
            if name == "wandb-summary.json":
                known.summary = json.loads(chunk["content"][-1])
            else:
                slots = known.slots if name == "wandb-history.jsonl" else known.lines
                _write(slots, chunk["offset"], chunk["content"])
        known.posts += 1
        known.state, known.exitcode = "running", None
        if request.get("complete"):
            known.finishes += 1
            known.exitcode = request["exitcode"]
            known.state = "failed" if known.exitcode else "finished"
        stopped = known.stopped
        await self.gate.after("post")
        return stopped

    async def alert(self, run: RunPath, alert: RunAlert, *, key: RunKey) -> None:
        await self._through("alert", run, key)
        alerts = self._run(run).alerts
        if alert.title not in {known.title for known in alerts}:
            alerts.append(alert)
        await self.gate.after("alert")

    async def _through(self, call: str, run: RunPath, key: RunKey) -> None:
        self.calls.append(call)
        await self.gate.before(call)
        if key.value.reveal() in self.refused:
            raise DeniedError("W&B does not accept the key in use", subject=str(run), code="401")
        if f"{run.entity}/{run.project}" in self.closed:
            raise DeniedError("no right to the project", subject=str(run), code="403")

    def _run(self, run: RunPath) -> FakeRun:
        if str(run) not in self.runs:
            raise MissingError("W&B has no such run", subject=str(run), code="run")
        return self.runs[str(run)]


def _write(slots: list[str | None], offset: int, lines: list[str]) -> None:
    slots.extend([None] * (offset - len(slots)))
    slots[offset : offset + len(lines)] = lines


class FakeKeys:
    """KeysPort with the key that one secret holds, or with none."""

    def __init__(self, key: RunKey | None = KEY, secret: SecretRef = PLACE) -> None:
        self.key, self.secret = key, secret

    async def run_key(self, secret: SecretRef) -> RunKey:
        if self.key is None or secret != self.secret:
            raise MissingError("no key was accepted yet", subject=str(secret))
        return self.key


@dataclass
class FakeProver:
    world: World

    async def prove(self, key: Secret) -> KeyOwner:
        self.world.called("prove key")
        if key.reveal() not in self.world.owners:
            raise RejectedError("W&B does not accept the key", code="401")
        return self.world.owners[key.reveal()]

    async def write_right(self, key: Secret, entity: str, project: str) -> WriteRight:
        self.world.called("ask for write right")
        if key.reveal() not in self.world.owners:
            raise RejectedError("W&B does not accept the key", code="401")
        # W&B shows nothing of other teams: their projects look like new ones.
        usual: WriteRight = (
            "write" if self.world.owners[key.reveal()].may_write(entity) else "new_project"
        )
        return self.world.rights.get((key.reveal(), entity, project), usual)


class FakeArtifacts:
    """ArtifactPort over a dictionary: each project knows equal versions by their files."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate: Gate = gate or Open()
        self.versions: dict[tuple[str, str, str], list[dict[str, bytes]]] = {}
        """Contents of each version by file name, under entity, project and artifact name."""
        self.logged: list[tuple[str, str, int]] = []
        """Run, artifact name and version's number."""
        self._lock = asyncio.Lock()

    async def log(self, run: RunPath, artifact: Artifact, *, key: RunKey) -> None:
        async with self._lock:
            await self._log(run, artifact)

    async def _log(self, run: RunPath, artifact: Artifact) -> None:
        await self.gate.before("log")
        known = self.versions.setdefault((run.entity, run.project, artifact.name), [])
        wanted = {file.name: file.md5 for file in artifact.files}
        sums = [{name: _md5(content) for name, content in one.items()} for one in known]
        if wanted not in sums:
            if artifact.fetch:
                await artifact.fetch()
            contents = {
                one.name: one.content
                if isinstance(one.content, bytes)
                else one.content.read_bytes()
                for one in artifact.files
            }
            assert {name: _md5(content) for name, content in contents.items()} == wanted
            known.append(contents)
            sums.append(wanted)
        self.logged.append((run.run_id, artifact.name, sums.index(wanted)))
        await self.gate.after("log")


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()
