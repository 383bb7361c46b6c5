"""One delivery of a queue message: what cannot be read or fails for good is in the status."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from finetune_wandb.flows import resync
from finetune_wandb.flows import work as work_flow
from finetune_wandb.flows.app import Pause
from finetune_wandb.model import work
from finetune_wandb.model.errors import RejectedError, UnavailableError
from finetune_wandb.model.messages import (
    AccountMessage,
    ArtifactMessage,
    KeyMessage,
    Message,
    RelayMessage,
    RequeueMessage,
)
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.model.work import QUEUES, Problem, work_of
from handlers.queues import BY_NAME, LAST_TRY, Queue, handle
from tests.fakes import NOW, FakeProblems, FakeQueue, FakeWork
from tests.flows.resync_stage import ACCOUNT, Stage


class Broken:
    """Whatever is asked of it fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def delivery(body: str | bytes, tries: int = 1) -> Any:
    text = body.encode() if isinstance(body, str) else body
    return SimpleNamespace(id="one", get_body=lambda: text, dequeue_count=tries)


def deps_of(app: Any) -> Any:
    async def connected() -> Any:
        return app

    return SimpleNamespace(app=connected)


def broken(error: Exception, stage: Stage | None = None) -> Any:
    """Return an app whose accounts cannot be read; its problems and re-syncs can."""
    stage = stage or Stage()
    stage.put_account_item()
    return SimpleNamespace(
        resyncs=stage.resyncs,
        clock=stage.app.clock,
        now=lambda: NOW,
        problems=FakeProblems(),
        work=FakeWork(),
        telemetry=NoTelemetry(),
        settings=Broken(error),
        reconcile=Broken(error),
        accounts=Broken(error),
    )


def kept(app: Any) -> Problem:
    """Return why the only message that was set aside was."""
    (aside,) = app.work.aside.values()
    assert aside.problem
    return cast("Problem", aside.problem)


RECONCILE, RELAY, ARTIFACTS = (
    BY_NAME[name] for name in (work.RECONCILE, work.RELAY, work.ARTIFACTS)
)
ERRORS = [UnavailableError("storage is away"), RejectedError("too large"), KeyError("a secret")]
WORK: list[tuple[Queue, Message, str]] = [
    (RECONCILE, AccountMessage(account=str(ACCOUNT.id)), "reconcile_account"),
    (
        RECONCILE,
        KeyMessage(vault="kv-main.vault.azure.net", secret="wandb-api-key"),
        "reconcile_account",
    ),
    (RELAY, RelayMessage(account=str(ACCOUNT.id), jobs=[{"id": "ftjob-1"}]), "relay_jobs"),
    (ARTIFACTS, ArtifactMessage(account=str(ACCOUNT.id), jobs=["ftjob-1"]), "job_artifacts"),
]


@pytest.mark.parametrize(("queue", "message", "function"), WORK, ids=["account", "key", "j", "a"])
@pytest.mark.parametrize("error", ERRORS, ids=["temporary", "permanent", "unexpected"])
async def test_message_is_in_the_status_when_its_last_try_failed(
    queue: Queue, message: Message, function: str, error: Exception
) -> None:
    app = broken(error)
    for tries in range(1, LAST_TRY + 1):
        assert not app.work.aside
        with pytest.raises(type(error)):
            await handle(delivery(message.to_json(), tries), queue, deps_of(app))
    problem = kept(app)
    assert (problem.source, problem.subject) == (function, message.subject)
    assert "secret" not in problem.cause
    assert "/api/resync" in problem.remedy
    assert not app.work.rows


@pytest.mark.parametrize("queue", [RECONCILE, RELAY, ARTIFACTS], ids=["reconcile", "relay", "a"])
@pytest.mark.parametrize(
    ("body", "field"),
    [(b"{", "body"), (b'{"kind":"account"}', "account"), (b'{"kind":"key","vault":"x"}', "")],
    ids=str,
)
async def test_message_is_acknowledged_and_in_the_status_when_it_cannot_be_read(
    queue: Queue, body: bytes, field: str
) -> None:
    app = broken(KeyError("never asked"))
    await handle(delivery(body), queue, deps_of(app))
    ((source, subject, cause),) = app.problems.known
    assert source == QUEUES[queue.name]
    assert subject == field or not field
    assert cause
    assert app.problems.remedies[0]


async def test_resync_ends_when_an_account_failed_of_something_unexpected() -> None:
    stage = Stage()
    app = broken(KeyError("a secret"), stage)
    with pytest.raises(KeyError):
        await handle(delivery(stage.message.to_json(), LAST_TRY), RECONCILE, deps_of(app))
    assert stage.account_item.state == "failed"
    assert "/api/resync" in stage.account_item.results[0]["remedy"]
    assert kept(app)


@pytest.mark.parametrize("error", ERRORS, ids=["temporary", "permanent", "unexpected"])
async def test_jobs_of_a_resync_end_when_their_message_failed_at_its_last_try(
    error: Exception,
) -> None:
    stage = Stage(jobs=1)
    stage.put_account_item()
    await resync.handle_account(stage.message, stage.app)
    (message,) = stage.messages()
    app = broken(error, stage)
    with pytest.raises(type(error)):
        await handle(delivery(message.to_json(), LAST_TRY), RELAY, deps_of(app))
    (item,) = stage.job_items
    assert (item.state, item.failed) == ("failed", 1)
    problem = kept(app)
    assert (problem.source, problem.subject) == ("relay_jobs", message.account)


async def test_set_aside_messages_go_back_when_a_message_asks_for_it() -> None:
    table, queue = FakeWork(), FakeQueue()
    app = SimpleNamespace(
        queues=queue,
        work=table,
        clock=lambda: 5.0,
        telemetry=NoTelemetry(),
        problems=FakeProblems(),
    )
    body = AccountMessage(account=str(ACCOUNT.id)).to_json()
    await table.set_aside(work_of("reconcile-accounts", body))
    await handle(delivery(orjson.dumps({"kind": "requeue"})), RECONCILE, deps_of(app))
    assert queue.sent == [orjson.loads(body)]
    await handle(delivery(RequeueMessage(sent_at=5.0).to_json()), RECONCILE, deps_of(app))
    assert len(queue.sent) == 1


async def test_cause_is_in_the_status_when_a_message_takes_too_long() -> None:
    app = broken(KeyError("never asked"))
    started = asyncio.Event()

    async def hang(message: Message, app: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    slow = replace(RELAY, handle=hang, budget_s=0.05)
    message = RelayMessage(account=str(ACCOUNT.id), jobs=[], trigger="timer")
    with pytest.raises(UnavailableError):
        await handle(delivery(message.to_json()), slow, deps_of(app))
    assert started.is_set()
    ((source, subject, cause),) = app.problems.known
    assert (source, subject) == ("relay_jobs", message.account)
    assert "seconds" in cause


async def test_message_that_took_too_long_is_left_to_its_queue() -> None:
    """It did not die with its process: a copy would run beside the one that the queue brings back."""
    app = broken(KeyError("never asked"))
    now = [1000.0]
    app.clock = lambda: now[0]
    app.queues, app.poison_looks = FakeQueue(), Pause(600.0)

    async def hang(message: Message, app: Any) -> None:
        await asyncio.Event().wait()

    slow = replace(RECONCILE, handle=hang, budget_s=0.02)
    message = AccountMessage(account=str(ACCOUNT.id), trigger="event")
    for tries in (1, 2):
        with pytest.raises(UnavailableError):
            await handle(delivery(message.to_json(), tries), slow, deps_of(app))
        now[0] += 630
        await work_flow.look_after(app)
    assert app.queues.sent == []
