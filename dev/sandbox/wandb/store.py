"""What the W&B stand-in remembers: projects, their runs, and the state a run is in.

Runs are made by `upsertBucket` and written by file_stream. A deleted run leaves its name behind:
the real service never gives it out again.
"""

import base64
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dev.sandbox.store import World
from dev.sandbox.wandb.artifacts import Artifact, Blob, Blobs, Collection
from dev.sandbox.wandb.keys import KeyRing, Refusal, run_was_deleted
from dev.sandbox.wandb.lines import History, Lines, Row, loads

ALIVE = ("running", "preempting")
OUTPUT = "output.log"
EVENTS = "wandb-events.jsonl"


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
        """Return the state: a run that fell silent while alive has crashed, or was preempted."""
        if self.state in ALIVE and now - self.heartbeat_at > silence_s:
            return "preempted" if self.state == "preempting" else "crashed"
        return self.state

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
    file_stream_per_run_per_s: float | None = None


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
