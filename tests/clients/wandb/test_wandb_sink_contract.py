"""W&B runs as the relay sees them: the client over HTTP, and the fake, do the same."""

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest

from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.sink import Pacing, WandbSink
from finetune_wandb.model.errors import DeniedError, MissingError, RejectedError
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import EnsuredRun, RunAlert, RunAttributes, RunKey, SinkPort
from finetune_wandb.model.secret import Secret
from finetune_wandb.relay.passes.outbox import HEARTBEAT, body
from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, wandb_server
from tests.fakes import FakeSink

pytestmark = pytest.mark.sandbox_only

RUN = RunPath(ENTITY, "proj", "ftjob-1")
KEY = RunKey(ENTITY, Secret("k" * 40))
ATTRIBUTES = RunAttributes("nice", "gpt-4o", "fine-tune", ("a", "b"), "note", {"lr": 0.1})


@dataclass
class Stage:
    """A sink, and what its W&B holds and can be made to do."""

    sink: SinkPort
    shown: Callable[[], Coroutine[Any, Any, dict[str, Any]]]
    delete: Callable[[], Coroutine[Any, Any, Any]]
    stop: Callable[[], Coroutine[Any, Any, Any]]
    refuse: Callable[[str], Coroutine[Any, Any, Any]]


@pytest.fixture(params=["fake", "client"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield _fake()
        return
    async with wandb_server() as server:
        transport = Transport()

        async def shown() -> dict[str, Any]:
            found: dict[str, Any] = await server.shown("ftjob-1")
            return found

        yield Stage(
            WandbSink(transport, server.url, pacing=Pacing(1000)),
            shown,
            lambda: server.control("DELETE", f"runs/{ENTITY}/proj/ftjob-1"),
            lambda: server.control("POST", f"runs/{ENTITY}/proj/ftjob-1/stop"),
            lambda key: server.control("PUT", "keys", {"key": key, "state": "revoked"}),
        )
        await transport.close()


def _fake() -> Stage:
    fake = FakeSink()

    async def shown() -> dict[str, Any]:
        run = fake.runs[str(RUN)]
        return {
            "state": run.state,
            "exitcode": run.exitcode,
            "history": run.history,
            "summary": run.summary,
            "output": run.output,
            "tags": list(run.attributes.tags),
            "display_name": run.attributes.display_name,
            "notes": run.attributes.notes,
            "config": {**run.attributes.config, "_wandb": {}},
            "alerts": [{"title": alert.title, "sent": True} for alert in run.alerts],
        }

    async def delete() -> None:
        fake.delete(str(RUN))

    async def stop() -> None:
        fake.runs[str(RUN)].stopped = True

    async def refuse(key: str) -> None:
        fake.refused.add(key)

    return Stage(fake, shown, delete, stop, refuse)


def post(offset: int, *rows: str, lines: tuple[str, ...] = (), **more: Any) -> bytes:
    given: dict[str, Any] = {"line_offset": 0, "summary": {"n": len(rows)}, "exitcode": None}
    return body(rows=rows, row_offset=offset, lines=lines, **{**given, **more})


async def test_run_has_its_attributes_when_it_is_made_and_changed(stage: Stage) -> None:
    assert await stage.sink.read_run(RUN, key=KEY) is None
    made = await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    assert made == EnsuredRun(RUN, inserted=True)
    found = await stage.shown()
    assert (found["state"], found["display_name"], found["tags"]) == ("running", "nice", ["a", "b"])
    changed = RunAttributes("new", "gpt-4o", "fine-tune", ("c",), "other", {"lr": 0.2})
    made = await stage.sink.ensure_run(RUN, changed, is_new=False, pending=False, key=KEY)
    assert made == EnsuredRun(RUN, inserted=False)
    found = await stage.shown()
    # Name and notes are people's, once the run is made.
    assert (found["display_name"], found["tags"], found["config"]["lr"]) == ("nice", ["c"], 0.2)
    assert found["notes"] == "note"
    untagged = replace(changed, tags=())
    await stage.sink.ensure_run(RUN, untagged, is_new=False, pending=False, key=KEY)
    seen = await stage.sink.read_run(RUN, key=KEY)
    assert seen is not None
    assert (seen.state, seen.rows, seen.lines, seen.is_relayed) == ("running", 0, 0, True)
    assert (seen.config["lr"], seen.tags) == (0.2, ("c",))


async def test_run_leaves_pending_when_the_first_rows_come(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=True, key=KEY)
    assert (await stage.shown())["state"] == "pending"
    await stage.sink.post(RUN, post(0, '{"step":1}'), key=KEY)
    assert (await stage.shown())["state"] == "running"


async def test_rows_are_there_once_when_the_same_body_is_sent_again(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    first = post(0, '{"step":1}', '{"step":2}', lines=("one", "two"))
    for sent in (first, first, post(2, '{"step":3}', line_offset=2, lines=("three",)), first):
        await stage.sink.post(RUN, sent, key=KEY)
    found = await stage.shown()
    assert [row["step"] for row in found["history"]] == [1, 2, 3]
    assert found["output"] == ["one", "two", "three"]
    assert found["summary"] == {"n": 2}


@pytest.mark.parametrize(("code", "state"), [(0, "finished"), (1, "failed")])
async def test_run_ends_and_is_revived_when_posts_say_so(
    stage: Stage, code: int, state: str
) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    await stage.sink.post(RUN, post(0, '{"step":1}', exitcode=code), key=KEY)
    found = await stage.shown()
    assert (found["state"], found["exitcode"]) == (state, code)
    await stage.sink.post(RUN, HEARTBEAT, key=KEY)
    assert (await stage.shown())["state"] == "running"


async def test_stop_is_told_when_somebody_pressed_it(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    assert await stage.sink.post(RUN, HEARTBEAT, key=KEY) is False
    await stage.stop()
    assert await stage.sink.post(RUN, HEARTBEAT, key=KEY) is True


async def test_missing_is_said_when_the_run_is_not_there(stage: Stage) -> None:
    with pytest.raises(MissingError) as caught:
        await stage.sink.post(RUN, HEARTBEAT, key=KEY)
    assert caught.value.code == "run"


async def test_deleted_is_said_when_the_id_is_used_up(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    await stage.delete()
    with pytest.raises(RejectedError) as caught:
        await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    assert caught.value.code == "deleted"


async def test_denied_is_said_when_the_key_is_refused(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    bad = RunKey(ENTITY, Secret("d" * 40))
    await stage.refuse("d" * 40)
    for call in (
        stage.sink.post(RUN, HEARTBEAT, key=bad),
        stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=bad),
        stage.sink.alert(RUN, RunAlert("failed", "failed", "title", "text"), key=bad),
    ):
        with pytest.raises(DeniedError) as caught:
            await call
        assert caught.value.code == "401"
        assert "d" * 40 not in repr(caught.value) + str(caught.value) + caught.value.remedy


async def test_alert_reaches_people_once_when_it_is_raised_twice(stage: Stage) -> None:
    await stage.sink.ensure_run(RUN, ATTRIBUTES, is_new=True, pending=False, key=KEY)
    for title in ("title", "title", "another"):
        await stage.sink.alert(RUN, RunAlert("failed", "failed", title, "text"), key=KEY)
    alerts = (await stage.shown())["alerts"]
    assert [alert["title"] for alert in alerts if alert["sent"]] == ["title", "another"]
