"""One relay in this process, over real HTTP to the sandbox, with a clock that tests turn.

The clients are the product's own; only cursors are kept in memory. W&B's clock is the same one,
so what it makes of silence can be seen without waiting for it.
"""

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiohttp import web

from dev.sandbox import settings
from dev.sandbox.server import Sandbox, serve
from dev.sandbox.store import World
from dev.sandbox.wandb.control import shown
from dev.sandbox.wandb.store import Hub, hub
from finetune_wandb.clients.azure.jobs import Jobs
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.sink import Pacing, WandbSink
from finetune_wandb.model.accounts.account import RelayAccount
from finetune_wandb.model.accounts.ports import OutgoingNotice
from finetune_wandb.model.relay.cursor import Cursor
from finetune_wandb.model.relay.job import parse_job, reduce_job
from finetune_wandb.model.relay.ports import RunKey
from finetune_wandb.model.secret import Secret
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.job_pass import JobOutcome
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests import fakes

ENTITY = "sandbox-team"
PROJECT = "proj"
KEY = "wandb_v1_" + "s" * 77
START = 1_764_000_000.0
"""When the stage's jobs are made (unix seconds)."""
Json = dict[str, Any]


class Topic:
    """NoticePort that keeps what is published."""

    def __init__(self) -> None:
        self.notices: list[OutgoingNotice] = []

    async def publish(self, notice: OutgoingNotice) -> None:
        self.notices.append(notice)


@dataclass
class Stage:
    """See the module. `now` is the time for relay and W&B alike."""

    url: str
    world: World
    transport: Transport
    account: RelayAccount = field(default_factory=lambda: fakes.relay_account(project=PROJECT))
    options: RelayOptions = field(default_factory=RelayOptions)
    key: RunKey = field(default_factory=lambda: RunKey(ENTITY, Secret(KEY)))
    cursors: fakes.FakeCursors = field(default_factory=fakes.FakeCursors)
    topic: Topic = field(default_factory=Topic)
    pacing: Pacing = field(default_factory=lambda: Pacing(per_second=1000))
    """The stage's clock can run for hours within a second: by default nothing is held back."""
    now: float = START + 100

    def __post_init__(self) -> None:
        hub(self.world).clock = lambda: self.now
        self.ports = RelayPorts(
            jobs=Jobs(self.transport, "https://cognitiveservices.azure.com/.default"),
            cursors=self.cursors,
            sink=WandbSink(self.transport, self.url, pacing=self.pacing),
            keys=fakes.FakeKeys(self.key),
            notices=self.topic,
            new_id=fakes.short_id,
        )

    @property
    def hub(self) -> Hub:
        return hub(self.world)

    async def put(self, job: Mapping[str, Any], **more: Any) -> None:
        """Set what the fine-tuning API answers for a job: `events`, `result_csv`, …"""
        url = f"{self.url}/_sandbox/accounts/{self.account.name}/jobs/{quote(str(job['id']))}"
        body = io.BytesIO(json.dumps({"job": job, **more}).encode())
        async with self.transport.session().put(url, data=body) as answer:
            assert answer.status == 200, await answer.text()

    async def tick(self, later: float = 0.0, *, force: bool = False) -> dict[str, JobOutcome]:
        """Relay all jobs of the account, `later` seconds after the last time."""
        self.now += later
        # As in the product: the listed object travels in a message in its reduced form.
        listed = (await self.ports.jobs.list_jobs(self.account, None, 100)).items
        jobs = [job for raw in listed if (job := parse_job(reduce_job(raw))) is not None]
        outcomes = await relay_account(
            self.account,
            jobs,
            ports=self.ports,
            clock=lambda: self.now,
            options=self.options,
            force=force,
        )
        return {outcome.job: outcome for outcome in outcomes}

    async def settled(self, ticks: int = 12) -> None:
        """Tick until every finished job is complete."""
        for _ in range(ticks):
            await self.tick(60.0)

    def cursor(self, job_id: str) -> Cursor:
        return self.cursors.stored[self.account.key, job_id]

    def run(self, run_id: str, project: str = PROJECT, entity: str = ENTITY) -> Json:
        """Return what W&B holds of a run, deleted ones included. Fails when there is none."""
        found = self.hub.run_or_tombstone(entity, project, run_id)
        assert found is not None, f"no run {entity}/{project}/{run_id}: {self.runs()}"
        return shown(self.hub, found)

    def runs(self) -> list[str]:
        projects = self.hub.projects.values()
        return sorted(run.path for one in projects for run in one.runs.values())


def job(job_id: str = "ftjob-1", status: str = "running", **more: Any) -> Json:
    """Return a job of the v1 API, made at START."""
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "created_at": int(START),
        "status": status,
        "model": "gpt-4.1-mini-2025-04-14",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "training_file": "file-training",
        "result_files": None,
        "seed": 7,
        **more,
    }


def metric(step: int, job_id: str = "ftjob-1", **data: Any) -> Json:
    """Return a metric event, by default with a training loss."""
    return {
        "id": f"ftevent-{job_id}-{step}",
        "object": "fine_tuning.job.event",
        "created_at": int(START) + 10 + step,
        "level": "info",
        "message": f"Step {step}: training loss=0.5",
        "type": "metrics",
        "data": {"step": step, **(data or {"train_loss": 1 / (step + 1)})},
    }


def message(text: str, at: float, level: str = "info", job_id: str = "ftjob-1") -> Json:
    """Return an event without metrics, `at` seconds after START."""
    return {
        "id": f"ftevent-{job_id}-m-{at}",
        "object": "fine_tuning.job.event",
        "created_at": int(START + at),
        "level": level,
        "message": text,
        "type": "message",
    }


def values(run: Mapping[str, Any], name: str) -> list[Any]:
    """Return what a run's history has under one name, in order."""
    return [row[name] for row in run["history"] if name in row]


def steps(run: Mapping[str, Any]) -> Sequence[int]:
    return [row["step"] for row in run["history"]]


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Serve the sandbox on a free port of loopback, and join a relay to it."""
    world = World(base_url="", wandb_url="", host_url="")
    settings.of(world).openai_role_s = 0.0
    sandbox = Sandbox(world)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.rel_url.raw_path.startswith(("/_sandbox", "/_host")):
            return await sandbox.handle_azure(request)
        return await sandbox.handle_wandb(request)

    runner = await serve(handle, 0)
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"
    world.base_url = world.wandb_url = url
    transport = Transport(url)
    try:
        yield Stage(url, world, transport)
    finally:
        await transport.close()
        await runner.cleanup()
