"""In-memory stand-ins for the relay's ports: fine-tuning API, cursor table, W&B, keys, queue.

They behave as the real clients do towards the sandbox; `tests/clients/test_*_contract.py` holds
both to the same. Faults come from a `Gate`, which sees every call before and after its effect.
"""

import asyncio
import base64
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import orjson

from finetune_wandb.model.account import RelayAccount
from finetune_wandb.model.artifact import Artifact
from finetune_wandb.model.cursor import Cursor, JobSeen, RunPath
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    MissingError,
    RejectedError,
)
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.messages import Message
from finetune_wandb.model.queues import SetAside
from finetune_wandb.model.relay_ports import (
    EnsuredRun,
    Listing,
    RunAlert,
    RunAttributes,
    RunKey,
    RunSeen,
)
from finetune_wandb.model.relay_state import RelayState
from finetune_wandb.model.secret import Secret, SecretRef, secret_at
from finetune_wandb.model.work import Work

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
ENTITY = "team"
PROJECT = "proj"
KEY = RunKey(ENTITY, Secret("k" * 40))


def relay_account(name: str = "aoai-one", **more: Any) -> RelayAccount:
    """Return an account as the relay sees it."""
    account_id = parse_account_id(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-one"
        f"/providers/Microsoft.CognitiveServices/accounts/{name}"
    )
    account = RelayAccount(
        id=account_id,
        name=name,
        endpoint=f"https://{name}.openai.azure.com",
        region="swedencentral",
        subscription=SUBSCRIPTION,
        entity="",
        project=PROJECT,
        secret=secret_at("kv-main.vault.azure.net", "wandb-api-key"),
    )
    return replace(account, **more)


class Gate(Protocol):
    """Sees every call; may raise, wait, or let it pass."""

    async def before(self, call: str) -> None:
        """Come before the effect: an error here means that nothing happened."""

    async def after(self, call: str) -> None:
        """Come after the effect: an error here means that the answer was lost."""


class Open:
    """A gate that lets everything pass."""

    async def before(self, call: str) -> None:
        """Let it pass."""

    async def after(self, call: str) -> None:
        """Let it pass."""


class Once(Open):
    """Raises each listed error once, at the first call of that name."""

    def __init__(self, **errors: Exception) -> None:
        """Names are calls, with `lost_` before them for an answer that is lost."""
        self.errors = errors

    async def before(self, call: str) -> None:
        if error := self.errors.pop(call, None):
            raise error

    async def after(self, call: str) -> None:
        if error := self.errors.pop(f"lost_{call}", None):
            raise error


@dataclass
class FakeJob:
    """What the API answers for one job; listings are in the order they are served."""

    body: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)


class FakeJobs:
    """JobsPort over dictionaries. Newest jobs come first."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate: Gate = gate or Open()
        self.jobs: dict[str, FakeJob] = {}
        self.files: dict[str, bytes] = {}
        self.page_size = 100
        self.chunk = 65536
        self.calls: list[str] = []
        self.cancelled: list[str] = []

    def put(self, body: dict[str, Any], **lists: list[dict[str, Any]]) -> FakeJob:
        """Set what is answered for a job from now on."""
        job = self.jobs[body["id"]] = FakeJob(body, **lists)
        return job

    async def _through(self, call: str) -> None:
        self.calls.append(call)
        await self.gate.before(call)

    async def list_jobs(
        self, account: RelayAccount, after: str | None, limit: int, *, known: bytes = b""
    ) -> Listing:
        await self._through("list_jobs")
        bodies = [job.body for job in reversed(self.jobs.values())]
        page = self._page(bodies, after, limit)
        digest = repr(page).encode()
        if digest == known:
            return Listing([], False, digest, unchanged=True)
        return Listing(page.items, page.has_more, digest)

    async def read_job(self, account: RelayAccount, job: str) -> dict[str, Any]:
        await self._through("read_job")
        return deepcopy(self._job(job).body)

    async def list_events(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        await self._through("list_events")
        return self._page(self._job(job).events, after, limit)

    async def list_checkpoints(
        self, account: RelayAccount, job: str, after: str | None, limit: int
    ) -> Listing:
        await self._through("list_checkpoints")
        return self._page(self._job(job).checkpoints, after, limit)

    async def cancel_job(self, account: RelayAccount, job: str) -> None:
        await self._through("cancel_job")
        self._job(job).body["status"] = "cancelled"
        self.cancelled.append(job)

    async def describe_file(self, account: RelayAccount, file_id: str) -> dict[str, Any]:
        await self._through("describe_file")
        if file_id not in self.files:
            raise MissingError("no such file", subject=file_id, code="404")
        return {"id": file_id, "filename": file_id, "bytes": len(self.files[file_id])}

    async def read_file(self, account: RelayAccount, file_id: str) -> AsyncIterator[bytes]:
        await self._through("read_file")
        if file_id not in self.files:
            raise MissingError("no such file", subject=file_id, code="404")
        content = self.files[file_id]
        for start in range(0, len(content), self.chunk):
            yield content[start : start + self.chunk]
            await self.gate.after("read_file")

    def _job(self, job: str) -> FakeJob:
        if job not in self.jobs:
            raise MissingError("no such job", subject=job, code="404")
        return self.jobs[job]

    def _page(self, items: list[dict[str, Any]], after: str | None, limit: int) -> Listing:
        """Return items behind the last occurrence of `after`, up to one that can be gone on from."""
        ids = [item.get("id") for item in items]
        start = 0
        if after is not None:
            if after not in ids:
                raise MissingError("no such item", subject=after, code="404")
            start = len(ids) - ids[::-1].index(after)
        end = min(start + max(min(limit, self.page_size), 1), len(ids))
        while end < len(ids) and (ids[end - 1] is None or ids[end - 1] in ids[end:]):
            end += 1
        return Listing(deepcopy(items[start:end]), end < len(ids))


class FakeCursors:
    """CursorsPort over a dictionary: versions, and only what survives JSON."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.gate: Gate = gate or Open()
        self.stored: dict[tuple[str, str], Cursor] = {}
        self.calls: list[str] = []
        self._version = 0

    async def read(self, account: str, jobs: Sequence[str]) -> dict[str, Cursor]:
        self.calls.append("read")
        await self.gate.before("read")
        return {
            job: _through_json(self.stored[account, job])
            for job in jobs
            if (account, job) in self.stored
        }

    async def save(self, cursors: Sequence[Cursor]) -> dict[str, AppError]:
        self.calls.append("save")
        await self.gate.before("save")
        lost: dict[str, AppError] = {}
        for cursor in cursors:
            place = cursor.account, cursor.job
            known = self.stored.get(place)
            if _compressed(cursor) > 1024 * 1024:
                lost[cursor.job] = RejectedError("too large", subject=cursor.job, code="cursor")
                continue
            if (known.etag if known else "") != cursor.etag:
                lost[cursor.job] = ConflictError("somebody was first", subject=cursor.job)
                continue
            self._version += 1
            # A writer whose answer is lost must not know its new version.
            self.stored[place] = replace(_through_json(cursor), etag=f'W/"{self._version}"')
        await self.gate.after("save")
        for cursor in cursors:
            if cursor.job not in lost:
                cursor.etag = self.stored[cursor.account, cursor.job].etag
        return lost

    async def seen(self, account: str, jobs: Sequence[str] | None = None) -> list[JobSeen]:
        self.calls.append("seen" if jobs is None else f"seen {' '.join(sorted(jobs))}")
        await self.gate.before("seen")
        return [
            JobSeen(
                *(cursor.job, cursor.relay_state, cursor.retry_at),
                *(cursor.status, cursor.run is not None),
            )
            for (owner, _), cursor in self.stored.items()
            if owner == account and (jobs is None or cursor.job in jobs)
        ]

    async def list_cursors(self, account: str | None = None) -> list[Cursor]:
        return [
            replace(cursor, state={}, outbox=b"")
            for (owner, _), cursor in self.stored.items()
            if account in (None, owner)
        ]


def _compressed(cursor: Cursor) -> int:
    parts = (orjson.dumps(cursor.state), cursor.outbox)
    size = sum(map(len, parts))
    return size if size < 1024 * 1024 else sum(len(zlib.compress(part, 1)) for part in parts)


def _through_json(cursor: Cursor) -> Cursor:
    data = orjson.loads(orjson.dumps({**asdict(cursor), "outbox": "", "run": None}))
    run = replace(cursor.run) if cursor.run else None
    state = RelayState(data["relay_state"])
    own = {"outbox": cursor.outbox, "run": run, "notes": tuple(data["notes"]), "relay_state": state}
    return Cursor(**{**data, **own})


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
        """Projects that no key may write to."""
        self.hidden: set[str] = set()
        """Runs that exist and that a reader does not see."""
        self.calls: list[str] = []

    def delete(self, run: str) -> None:
        """Remove a run as a person does in the web page."""
        del self.runs[run]
        self.deleted.add(run)

    async def ensure_run(
        self, run: RunPath, attributes: RunAttributes, *, pending: bool, key: RunKey
    ) -> EnsuredRun:
        await self._through("ensure_run", run, key)
        if str(run) in self.deleted:
            raise RejectedError("the run was deleted", subject=str(run), code="deleted")
        # What travels is JSON; what cannot must fail here as it would there.
        orjson.dumps(attributes)
        inserted = str(run) not in self.runs
        known = self.runs.setdefault(str(run), FakeRun(attributes))
        known.attributes = attributes
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
        self._run(run).alerts.append(alert)
        await self.gate.after("alert")

    async def _through(self, call: str, run: RunPath, key: RunKey) -> None:
        self.calls.append(call)
        await self.gate.before(call)
        if key.value.reveal() in self.refused:
            raise DeniedError("W&B does not accept the key in use", subject=str(run), code="401")
        if run.project in self.closed:
            raise DeniedError("no right to the project", subject=str(run), code="403")

    def _run(self, run: RunPath) -> FakeRun:
        if str(run) not in self.runs:
            raise MissingError("W&B has no such run", subject=str(run), code="run")
        return self.runs[str(run)]


def _write(slots: list[str | None], offset: int, lines: list[str]) -> None:
    slots.extend([None] * (offset - len(slots)))
    slots[offset : offset + len(lines)] = lines


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


class FakeKeys:
    """KeysPort with one key for every vault, or none."""

    def __init__(self, key: RunKey | None = KEY) -> None:
        self.key = key

    async def run_key(self, secret: SecretRef) -> RunKey:
        if self.key is None:
            raise MissingError("no key was accepted yet", subject=str(secret))
        return self.key


class FakeQueue:
    """WorkPort over a list of what travels as JSON."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.queues: list[str] = []
        """Which queue each message went to."""
        self.delays: list[float] = []
        self.poison: list[tuple[str, bytes]] = []
        self.full = False

    async def send(self, messages: Iterable[Message], *, delay_s: float = 0) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise ConflictError("the queue is gone", subject="queue")
        for message in messages:
            self.sent.append(orjson.loads(message.to_json()))
            self.queues.append(message.queue)
            self.delays.append(delay_s)

    async def put(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        if self.full:
            raise ConflictError("the queue is gone", subject="queue")
        self.sent.append(orjson.loads(body))
        self.queues.append(queue)
        self.delays.append(delay_s)

    async def poisoned(self) -> AsyncIterator[SetAside]:
        for queue, body in list(self.poison):

            async def remove(one: tuple[str, bytes] = (queue, body)) -> None:
                self.poison.remove(one)

            yield SetAside(queue, body, remove)


class FakeWork:
    """MessagePort over dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, Work] = {}
        self.aside: dict[str, Work] = {}
        self.writes = 0

    def _put(self, work: Work) -> None:
        self.writes += 1
        self.rows[work.key] = replace(work, etag=str(self.writes))

    async def read(self, work: Work) -> Work | None:
        return self.rows.get(work.key)

    async def claim(self, work: Work) -> None:
        known = self.rows.get(work.key)
        if (known.etag if known else "") != work.etag:
            raise ConflictError("another writer came first", subject="work")
        self._put(work)

    async def write(self, work: Work) -> None:
        self._put(work)

    async def remove(self, work: Work) -> None:
        self.rows.pop(work.key, None)

    async def list_open(self) -> list[Work]:
        return [replace(work, etag="") for work in self.rows.values()]

    async def set_aside(self, work: Work) -> None:
        self.aside[work.key] = work
        self.rows.pop(work.key, None)

    async def is_aside(self, work: Work) -> bool:
        return work.key in self.aside

    async def list_aside(self) -> list[Work]:
        return list(self.aside.values())

    async def forget_aside(self, work: Work) -> None:
        self.aside.pop(work.key, None)
