"""Which run a job writes to: never into one that was there before, never twice after one 404."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from finetune_wandb.model.errors import DeniedError, MissingError, RejectedError, UnavailableError
from finetune_wandb.model.ids import parse_account_id
from finetune_wandb.model.relay.cursor import RunPath
from finetune_wandb.model.relay.ports import EnsuredRun, RunAttributes, RunKey, RunSeen
from tests.fakes import FakeCursors, FakeRun, FakeSink, Once, Open
from tests.relay.stage import JOB, T0, Stage, body, event

RUN = f"team/proj/{JOB}"
ATTRIBUTES = RunAttributes(JOB, "", "", (), "")
PASSING = MissingError("not found", subject=RUN, code="run")


async def _relayed(sink: FakeSink | None = None) -> Stage:
    """Return a stage whose run has values of one step that came at two times."""
    stage = Stage(sink=sink or FakeSink())
    job = stage.api.put(body(), events=[event(n, train_loss=1 / n) for n in (3, 2, 1)])
    await stage.tick()
    stage.now += 60
    job.events[:0] = [
        {**event(n, valid_loss=2 / n), "id": f"v{n}", "created_at": T0 + 50 + n} for n in (3, 2, 1)
    ]
    await stage.tick()
    stage.now += 60
    return stage


def _doubled(stage: Stage) -> set[tuple[int, str]]:
    found = Counter((step, name) for step, name, _ in stage.values())
    return {place for place, count in found.items() if count > 1}


@pytest.mark.parametrize("invisible", [False, True], ids=["visible", "hidden"])
async def test_nothing_is_doubled_when_a_404_of_wandb_passes(invisible: bool) -> None:
    stage = await _relayed()
    job = stage.api.jobs[JOB]
    job.events.insert(0, event(4, train_loss=0.1))
    stage.sink.gate = Once(post=PASSING)
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "not found")
    assert stage.cursor.outbox, "what was claimed waits"
    # W&B is not asked before the pause is over.
    calls = len(stage.sink.calls)
    await stage.tick()
    assert len(stage.sink.calls) == calls
    stage.now += 60
    if invisible:
        stage.sink.hidden.add(RUN)
    await stage.tick()
    stage.sink.hidden.clear()
    assert stage.cursor.outbox == b""
    assert [step for step, _, _ in stage.values()][-1] == 4
    stage.api.put(body("succeeded"), events=job.events)
    await stage.finish()
    assert _doubled(stage) == set()
    assert len(stage.values()) == 7
    assert len(stage.sink.runs) == 1


async def test_run_is_written_anew_when_wandb_really_has_it_no_longer() -> None:
    stage = await _relayed()
    del stage.sink.runs[RUN]
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.1))
    await stage.tick()
    stage.now += 60
    (outcome,) = await stage.tick()
    assert outcome.relay_state == "new"
    stage.now += 60
    await stage.tick()
    assert len(stage.values()) == 7
    assert _doubled(stage) == set()


async def test_run_is_written_anew_when_the_pass_that_made_it_died() -> None:
    """W&B says only once that a run was made just now."""
    stage = await _relayed()
    del stage.sink.runs[RUN]
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.1))
    await stage.tick()
    stage.now += 60
    stage.sink.gate = Once(lost_ensure_run=UnavailableError("the answer is lost"))
    await stage.tick()
    assert stage.run.history == []
    for _ in range(3):
        stage.now += 60
        await stage.tick()
    assert len(stage.values()) == 7
    assert None not in stage.run.slots


async def test_run_is_written_anew_when_a_repeated_request_hides_that_it_was_made() -> None:
    class Repeats(FakeSink):
        """The client sends a request again whose answer was lost."""

        async def ensure_run(
            self, run: RunPath, attributes: RunAttributes, **more: Any
        ) -> EnsuredRun:
            with suppress(UnavailableError):
                return await super().ensure_run(run, attributes, **more)
            return await super().ensure_run(run, attributes, **more)

    stage = await _relayed(Repeats())
    del stage.sink.runs[RUN]
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.1))
    await stage.tick()
    stage.now += 60
    stage.sink.gate = Once(lost_ensure_run=UnavailableError("gateway timeout"))
    for _ in range(3):
        await stage.tick()
        stage.now += 60
    assert len(stage.values()) == 7
    assert None not in stage.run.slots


async def test_run_is_written_anew_when_its_attributes_change_before_anything_is_sent() -> None:
    stage = await _relayed()
    del stage.sink.runs[RUN]
    stage.api.jobs[JOB].body = body("paused")
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.1))
    for _ in range(3):
        await stage.tick()
        stage.now += 60
    assert len(stage.values()) == 7
    assert None not in stage.run.slots


async def test_run_is_kept_when_a_forced_pass_comes_before_wandb_has_counted_its_rows() -> None:
    class Lagging(FakeSink):
        async def read_run(self, run: RunPath, *, key: RunKey) -> RunSeen | None:
            found = await super().read_run(run, key=key)
            return found and replace(found, rows=0, lines=0, summary={})

    stage = Stage(sink=Lagging())
    stage.api.put(body(), events=[event(n, train_loss=1 / n) for n in (3, 2, 1)])
    await stage.tick()
    stage.now += 2
    (outcome,) = await stage.tick(force=True)
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert (list(stage.sink.runs), len(stage.values())) == ([RUN], 3)


async def test_nothing_is_doubled_when_a_403_of_wandb_passes() -> None:
    stage = await _relayed()
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.1))
    stage.sink.gate = Once(post=DeniedError("forbidden", subject=RUN, code="403", remedy="ask"))
    (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.remedy) == ("parked", "ask")
    stage.now += 61
    await stage.tick()
    assert _doubled(stage) == set()
    assert len(stage.values()) == 7


async def test_job_starts_over_where_the_remedy_sent_it_when_its_place_was_closed() -> None:
    stage = await _relayed()
    first = list(stage.run.slots)
    stage.sink.closed.add("team/proj")
    stage.api.jobs[JOB].events.insert(0, event(4, train_loss=0.4))
    (outcome,) = await stage.tick()
    assert outcome.relay_state == "parked"
    stage.account = replace(stage.account, entity="new-team")
    for _ in range(3):
        stage.now += 3600
        (outcome,) = await stage.tick()
    assert (outcome.relay_state, outcome.error) == ("live", "")
    assert len(stage.values(stage.sink.runs[f"new-team/proj/{JOB}"])) == 7
    assert stage.sink.runs[RUN].slots == first


async def test_job_stays_in_its_run_when_azure_refuses_and_its_account_names_another_place() -> (
    None
):
    stage = await _relayed()
    stage.account = replace(stage.account, entity="new-team")
    stage.api.gate = Once(list_events=DeniedError("no role yet", subject=JOB, code="403"))
    for _ in range(2):
        await stage.tick()
        stage.now += 61
    assert list(stage.sink.runs) == [RUN]


async def test_job_is_parked_ever_longer_when_wandb_knows_no_such_entity() -> None:
    class Unknown(Open):
        async def before(self, call: str) -> None:
            if call == "ensure_run":
                raise RejectedError("entity acme-tpyo not found", code="entity", remedy="check it")

    stage = Stage()
    stage.sink.gate = Unknown()
    stage.api.put(body("succeeded"), events=[event(n, train_loss=0.5) for n in range(300, 0, -1)])
    for _ in range(60):
        (outcome,) = await stage.tick()
        stage.now += 60
    assert stage.cursor.relay_state == outcome.relay_state == "parked"
    assert stage.cursor.remedy == "check it"
    assert stage.sink.calls.count("ensure_run") < 10
    assert len(stage.api.calls) < 60


@pytest.mark.parametrize("relayed", [True, False], ids=["by this app", "by another tool"])
async def test_run_that_was_there_before_is_left_alone(relayed: bool) -> None:
    stage = Stage()
    stage.sink.runs[RUN] = foreign = FakeRun(ATTRIBUTES, is_relayed=relayed, slots=['{"a": 1}'])
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    await stage.tick()
    assert foreign.slots == ['{"a": 1}']
    assert (foreign.posts, foreign.attributes) == (0, ATTRIBUTES)
    assert str(stage.cursor.run) == f"{RUN}-2"
    assert "was there before" in stage.cursor.notes[0]
    stage.now += 60
    stage.api.jobs[JOB].events.insert(0, event(2, train_loss=0.4))
    await stage.tick()
    assert len(stage.values(stage.sink.runs[f"{RUN}-2"])) == 2
    assert stage.sink.calls.count("read_run") == 2, "chosen once"


@pytest.mark.parametrize("moved", [True, False], ids=["account moved", "app deployed anew"])
async def test_next_generation_is_used_when_the_job_was_relayed_by_another_row(moved: bool) -> None:
    stage = await _relayed()
    stage.api.put(body("succeeded"), events=stage.api.jobs[JOB].events)
    await stage.finish()
    first = stage.sink.runs[RUN]
    before = list(first.slots)
    if moved:
        new_id = parse_account_id(str(stage.account.id).replace("rg-one", "rg-two"))
        stage.account = replace(stage.account, id=new_id)
        stage.api.jobs[JOB].owner = new_id.key
    else:
        stage.cursors = FakeCursors()
    stage.now += 3600
    await stage.finish()
    assert first.slots == before
    second = stage.sink.runs[f"{RUN}-2"]
    assert sorted(stage.values(second)) == sorted(stage.values(first))
    assert second.state == "finished"


async def test_own_run_is_used_when_the_pass_that_made_it_died() -> None:
    class Dies(Open):
        async def after(self, call: str) -> None:
            if call == "ensure_run":
                raise UnavailableError("lost")

    stage = Stage()
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    stage.sink.gate = Dies()
    await stage.tick()
    assert stage.run.history == []
    stage.sink.gate = Open()
    stage.now += 60
    await stage.tick()
    assert list(stage.sink.runs) == [RUN]
    assert len(stage.values()) == 1


async def test_own_run_is_used_at_once_when_the_answer_to_making_it_is_lost() -> None:
    stage = Stage()
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    stage.sink.gate = Once(lost_ensure_run=UnavailableError("lost"))
    (outcome,) = await stage.tick()
    assert (outcome.error, list(stage.sink.runs), len(stage.values())) == ("", [RUN], 1)


async def test_run_of_a_row_that_an_older_version_stored_is_kept() -> None:
    stage = Stage()
    stage.api.put(body("queued"))
    await stage.tick()
    attributes = stage.run.attributes
    config = {name: value for name, value in attributes.config.items() if name != "relay_id"}
    stage.run.attributes = replace(attributes, config=config)
    stage.cursor.state = {**stage.cursor.state, "relay_id": "", "attributes": None}
    stage.api.put(body(), events=[event(1, train_loss=0.5)])
    stage.now += 60
    await stage.tick()
    assert (list(stage.sink.runs), len(stage.values())) == ([RUN], 1)
