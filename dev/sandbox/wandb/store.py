"""What the W&B stand-in remembers: projects, their runs, and the state a run is in.

Runs are made by `upsertBucket` and written by file_stream. A deleted run leaves its name behind:
the real service never gives it out again. Counters that a resuming client reads are seconds old.
"""

import base64
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dev.sandbox.store import World
from dev.sandbox.wandb.artifacts import Artifact, Blob, Blobs, Collection
from dev.sandbox.wandb.keys import KeyRing, Refusal, run_was_deleted
from dev.sandbox.wandb.lines import History, Lines, Row, loads

ALIVE = ("running", "preempting")
OUTPUT = "output.log"
EVENTS = "wandb-events.jsonl"
_REMEMBERED_S = 60.0


class Sizes(NamedTuple):
    """Lines in a run's streams."""

    history: int
    events: int
    output: int


@dataclass(eq=False)
class Run:
    """One run. `state` is what was last reported; `state_at` is what readers see."""

    name: str
    project: "Project"
    id: str
    username: str
    created_at: float
    heartbeat_at: float
    display_name: str
    state: str = "running"
    exitcode: int | None = None
    description: str | None = None
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    commit: str | None = None
    host: str | None = None
    program: str | None = None
    repo: str | None = None
    sweep_name: str | None = None
    tags: list[str] = field(default_factory=list)
    config: str = "{}"
    summary_line: str | None = None
    history: History = field(default_factory=History)
    streams: dict[str, Lines] = field(default_factory=dict)
    files: dict[str, Blob] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    logged: list[Artifact] = field(default_factory=list)
    used: list[Artifact] = field(default_factory=list)
    posts: int = 0
    recent_posts: list[float] = field(default_factory=list)
    stopped: bool = False
    deleted: bool = False
    sizes: list[tuple[float, Sizes]] = field(default_factory=list)
    """How long the streams were after each write of the last minute, with its time."""

    @property
    def path(self) -> str:
        return f"{self.project.entity}/{self.project.name}/{self.name}"

    @property
    def output(self) -> Lines:
        return self.streams.setdefault(OUTPUT, Lines())

    @property
    def events(self) -> Lines:
        return self.streams.setdefault(EVENTS, Lines())

    def state_at(self, now: float, silence_s: float) -> str:
        """Return the state: a run that fell silent while alive has crashed, or was preempted.

        One that was to stop and says nothing of its end counts as killed.
        """
        if self.state in ALIVE and now - self.heartbeat_at > silence_s:
            if self.stopped:
                return "killed"
            return "preempted" if self.state == "preempting" else "crashed"
        return self.state

    def measure(self, now: float) -> None:
        """Note how long the streams are after a write."""
        sizes = Sizes(len(self.history), len(self.events), len(self.output))
        old = sum(1 for at, _ in self.sizes if at < now - _REMEMBERED_S)
        del self.sizes[: max(old - 1, 0)]
        self.sizes.append((now, sizes))

    def sizes_at(self, moment: float) -> Sizes:
        """Return how long the streams were then."""
        return next((sizes for at, sizes in reversed(self.sizes) if at <= moment), Sizes(0, 0, 0))

    def beat(self, now: float, silence_s: float) -> None:
        """Note a sign of life: it brings back even a run that had ended."""
        if self.state_at(now, silence_s) not in ALIVE:
            self.state, self.exitcode = "running", None
        self.heartbeat_at = now

    def finish(self, exitcode: int) -> None:
        """End the run."""
        preempted = self.state == "preempting" and exitcode != 0
        self.state = "preempted" if preempted else "failed" if exitcode else "finished"
        self.exitcode = exitcode
        self.stopped = False

    def summary(self) -> Row:
        """Return the summary last sent, or the one that follows from the history."""
        if self.summary_line is None:
            return self.history.last_values()
        value = loads(self.summary_line)
        return value if isinstance(value, dict) else {}

    def config_values(self) -> Row:
        """Return the config as sent: every value wrapped as `{"value": …}`."""
        value = loads(self.config)
        return value if isinstance(value, dict) else {}

    def uploaded(self) -> dict[str, Blob]:
        return {name: blob for name, blob in self.files.items() if blob.data is not None}


@dataclass(eq=False)
class Project:
    """One project with its runs in order of creation, and its artifact collections."""

    entity: str
    name: str
    number: int
    created_at: float
    description: str | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    deleted: dict[str, Run] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return node_id("Project", "v1", self.name, self.entity)


@dataclass
class Settings:
    """What the control port can turn. Rates are per second and run; None means unlimited."""

    silence_s: float = 300.0
    """Without a post for so long, a run has crashed."""
    file_stream_per_run_per_s: float | None = None
    counter_lag_s: float = 3.0
    """Age of the line counts and tails that a resuming client reads."""
    config: str = "merge"
    """`merge`: a second config is merged into the first, recursively; `replace`: it takes its
    place, as until 2024."""
    gaps: str = "close"
    """What becomes of a write beyond the end of a stream. `close`: the lines are renumbered to
    follow the last one; `keep`: empty lines stay in between, to be filled later."""
    entities: str = "known"
    """`known`: only entities that some key belongs to exist; `any`: every name is one."""
    keys_per_user: int = 100
    """Keys one user may have; 0: an administrator switched their creation off."""


def node_id(*parts: str) -> str:
    """Return an opaque id as the API gives them: base64 of a path."""
    return base64.b64encode(":".join(parts).encode()).decode()


@dataclass
class Hub:
    """Everything behind the W&B port."""

    clock: Callable[[], float] = time.time
    settings: Settings = field(default_factory=Settings)
    keys: KeyRing = field(default_factory=KeyRing)
    blobs: Blobs = field(default_factory=Blobs)
    projects: dict[tuple[str, str], Project] = field(default_factory=dict)
    runs_by_id: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    client_ids: dict[str, str] = field(default_factory=dict)
    requests: Counter[tuple[str | None, str, str, str | None, str | None, str | None]] = field(
        default_factory=Counter
    )

    def state_of(self, run: Run) -> str:
        return run.state_at(self.clock(), self.settings.silence_s)

    def sizes_of(self, run: Run) -> Sizes:
        """Return the line counts as a resuming client reads them."""
        return run.sizes_at(self.clock() - self.settings.counter_lag_s)

    def has_entity(self, entity: str) -> bool:
        return self.settings.entities == "any" or entity in self.keys.entities()

    def project(self, entity: str, name: str) -> Project | None:
        return self.projects.get((entity, name))

    def project_made(self, entity: str, name: str) -> Project:
        """Return the project, created when it is new."""
        project = self.projects.get((entity, name))
        if project is None:
            project = Project(entity, name, len(self.projects) + 1, self.clock())
            self.projects[entity, name] = project
        return project

    def run(self, entity: str, project: str, name: str) -> Run | None:
        found = self.projects.get((entity, project))
        return found.runs.get(name) if found else None

    def run_or_tombstone(self, entity: str, project: str, name: str) -> Run | None:
        found = self.projects.get((entity, project))
        return (found.runs.get(name) or found.deleted.get(name)) if found else None

    def run_with_id(self, run_id: str) -> Run:
        """Return the run with a storage id. Raises 404 when there is none."""
        if run_id not in self.runs_by_id:
            raise Refusal(404, "run not found")
        return self.runs_by_id[run_id]

    def create_run(self, project: Project, name: str | None, username: str) -> Run:
        """Add a run. Raises 409 when a run of that name was deleted."""
        name = name or secrets.token_hex(4)
        if name in project.deleted:
            raise run_was_deleted(f"{project.entity}/{project.name}/{name}")
        now = self.clock()
        run = Run(
            name=name,
            project=project,
            id=node_id("Run", "v1", name, project.name, project.entity),
            username=username,
            created_at=now,
            heartbeat_at=now,
            display_name=f"sandbox-run-{len(project.runs) + len(project.deleted) + 1}",
        )
        project.runs[name] = run
        self.runs_by_id[run.id] = run
        return run

    def delete_run(self, run: Run) -> None:
        """Remove a run as a person does in the web page; its name stays taken."""
        run.deleted = True
        run.project.deleted[run.name] = run.project.runs.pop(run.name)
        del self.runs_by_id[run.id]


def hub(world: World) -> Hub:
    """Return the world's W&B, made afresh after each reset."""
    return world.part("wandb", Hub)
