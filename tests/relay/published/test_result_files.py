"""Several result files of a job, and one that breaks off each time: nothing twice, nothing for ever."""

from typing import Any

import pytest

from finetune_wandb.model.errors import UnavailableError
from tests.fakes import Open
from tests.relay.stage import T0, Stage, body, event

FIRST = b"step,train_loss\n1,0.5\n2,0.25\n"
SECOND = b"step,train_loss,valid_loss\n2,9,0.75\n3,0.125,\n"


class Breaking(Open):
    """Every read of a file ends with an error behind its first piece, for as long as it is told."""

    def __init__(self, wait: float | None = None) -> None:
        self.on = True
        self._wait = wait

    async def after(self, call: str) -> None:
        if call == "read_file" and self.on:
            raise UnavailableError("cut", subject="file", retry_after=self._wait)


def ended(*files: str, **more: Any) -> Stage:
    """Return a stage whose job ended just now."""
    stage = Stage()
    stage.api.put(
        body("succeeded", result_files=list(files), finished_at=T0 + 100, **more),
        events=[event(1, train_loss=0.5)],
    )
    stage.api.files |= {"file-1": FIRST, "file-2": SECOND}
    return stage


async def until_complete(stage: Stage) -> float:
    """Tick when it is due until the job is complete; return the seconds that took."""
    start = stage.now
    for _ in range(40):
        (outcome,) = await stage.tick()
        if outcome.relay_state == "complete":
            return stage.now - start
        stage.now = max(stage.cursor.retry_at, stage.now + 60)
    raise AssertionError(outcome)


async def test_every_file_is_read_when_a_job_has_several() -> None:
    stage = ended("file-1", "file-2")
    await until_complete(stage)
    assert sorted(stage.values()) == [
        (1, "train_loss", 0.5),
        (2, "train_loss", 0.25),
        (2, "valid_loss", 0.75),
        (3, "train_loss", 0.125),
    ]
    # Each was read twice: when the job ended, and at the last look, for what came later.
    assert stage.api.calls.count("read_file") == 4


async def test_other_files_are_read_when_one_of_them_is_of_no_use() -> None:
    stage = ended("file-none", "file-zip", "file-2")
    stage.api.files["file-zip"] = b"PK\x03\x04"
    await until_complete(stage)
    assert (3, "train_loss", 0.125) in stage.values()
    assert [note for note in stage.cursor.notes if "file-none could not be used" in note]
    assert [note for note in stage.cursor.notes if "file-zip could not be used" in note]
    assert stage.cursor.error == ""


async def test_file_that_came_later_is_read_when_the_first_one_was() -> None:
    stage = ended("file-1")
    await stage.tick()
    stage.api.jobs["ftjob-1"].body["result_files"].append("file-2")
    stage.now += 60
    await until_complete(stage)
    assert (3, "train_loss", 0.125) in stage.values()


async def test_job_ends_with_the_cause_when_its_file_breaks_off_each_time() -> None:
    stage = ended("file-1")
    stage.api.chunk = 9
    stage.api.gate = Breaking()
    took = await until_complete(stage)
    assert 3600 < took < 6 * 3600
    assert stage.run.state == "finished"
    assert stage.values() == [(1, "train_loss", 0.5)]
    cursor = stage.cursor
    assert "file-1 could not be read to its end: cut" in cursor.error
    assert "force" in cursor.remedy
    # A complete job is not looked at again by itself.
    calls = len(stage.api.calls)
    await stage.tick()
    assert len(stage.api.calls) == calls


async def test_lines_before_the_break_are_used_when_a_file_breaks_off_each_time() -> None:
    stage = ended("file-1")
    lines = [f"{step},{1 / step}\n" for step in range(1, 40)]
    stage.api.files["file-1"] = ("step,train_loss\n" + "".join(lines)).encode()
    stage.api.chunk = len("step,train_loss\n" + "".join(lines[:20])) + 4  # in the middle of a line
    stage.api.gate = Breaking()
    await until_complete(stage)
    assert stage.values()[1:] == [(step, "train_loss", 1 / step) for step in range(2, 21)]


async def test_rest_is_relayed_when_a_forced_look_finds_the_file_whole() -> None:
    stage = ended("file-1")
    stage.api.chunk = 9
    stage.api.gate = gate = Breaking()
    await until_complete(stage)
    (outcome,) = await stage.tick(force=True)
    assert (outcome.relay_state, outcome.temporary) == ("complete", True)
    assert "file-1" in outcome.error
    gate.on = False
    (outcome,) = await stage.tick(force=True)
    assert (outcome.relay_state, outcome.error, stage.cursor.error) == ("complete", "", "")
    assert stage.values() == [(1, "train_loss", 0.5), (2, "train_loss", 0.25)]
    assert stage.run.state == "finished"


async def test_other_files_are_read_when_one_breaks_off_each_time() -> None:
    stage = ended("file-1", "file-2")

    class First(Breaking):
        async def after(self, call: str) -> None:
            if call == "read_file" and stage.api.calls.count("read_file") % 2:
                await super().after(call)

    stage.api.gate = First()
    stage.api.chunk = 4096
    for _ in range(3):
        (outcome,) = await stage.tick()
        assert outcome.temporary  # a hiccup: nobody is told of an end that is not one
        assert stage.sink.runs == {}
        stage.api.calls.clear()
        stage.now += 60
    await stage.tick()
    assert stage.run.state == "finished"
    assert (3, "train_loss", 0.125) in stage.values()


@pytest.mark.parametrize("pause", [900.0, 1e9])
async def test_pause_is_kept_when_the_service_asks_for_one(pause: float) -> None:
    stage = ended("file-1")
    stage.api.gate = Breaking(wait=pause)
    stage.api.chunk = 4096
    for _ in range(4):
        await stage.tick()
        assert stage.cursor.retry_at == stage.now + min(pause, 3600)
        stage.now = stage.cursor.retry_at
    assert stage.cursor.relay_state == "ending"


@pytest.mark.parametrize("first", [b"", b"ste", b"step,train_loss\n1,0.5\n2,0.1"])
async def test_file_is_read_again_when_it_was_not_whole_at_first(first: bytes) -> None:
    stage = Stage()
    stage.api.put(body("succeeded", result_files=["f1"]))
    stage.api.files["f1"] = first
    await stage.tick()
    stage.api.files["f1"] = b"step,train_loss\n1,0.5\n2,0.1\n3,0.0625\n"
    await until_complete(stage)
    assert [value for _, _, value in stage.values()] == [0.5, 0.1, 0.0625]
    assert stage.cursor.notes == ()
