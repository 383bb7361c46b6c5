"""Artifacts of finished jobs: memory, disk and reads stay small; the run is left as it ended."""

import asyncio
import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from finetune_wandb.model.errors import ConflictError, UnavailableError
from finetune_wandb.model.relay.cursor import Cursor, RunPath
from finetune_wandb.model.relay.job import parse_job
from finetune_wandb.relay.artifacts import ArtifactLog, ArtifactOutcome
from finetune_wandb.relay.passes.account_pass import relay_account
from finetune_wandb.relay.passes.memory import Memory
from finetune_wandb.relay.ports import RelayOptions, RelayPorts
from tests import fakes

LINE = json.dumps({"messages": [{"role": "user", "content": "x" * 2000}]}).encode() + b"\n"


class Work:
    """Finished jobs of one account and what logs their artifacts."""

    def __init__(
        self, *, with_content: bool, jobs_gate: Any = None, artifacts_gate: Any = None
    ) -> None:
        self.account = fakes.relay_account()
        self.jobs = fakes.FakeJobs(jobs_gate)
        self.cursors = fakes.FakeCursors()
        self.sink = fakes.FakeSink()
        self.artifacts = fakes.FakeArtifacts(artifacts_gate)
        self.ports = RelayPorts(
            self.jobs, self.cursors, self.sink, fakes.FakeKeys(), new_id=fakes.short_id
        )
        self.log_ = ArtifactLog(self.ports, self.artifacts, with_content=with_content)

    async def finish(self, name: str, project: str = "proj", **more: Any) -> None:
        self.jobs.put({"id": name, "status": "succeeded", "created_at": 1, **more})
        run = RunPath("team", project, name)
        cursor = Cursor(self.account.key, name, run=run, state={"ended": True})
        await self.cursors.save([cursor])

    async def log(self, *names: str) -> list[ArtifactOutcome]:
        return await self.log_.log(self.account, names, budget_s=60)

    def memory(self, name: str) -> Memory:
        cursor = self.cursors.stored[self.account.key, name]
        return Memory.of(cursor)


@pytest.mark.parametrize("with_content", [False, True])
async def test_each_file_is_read_once_when_many_jobs_share_it(with_content: bool) -> None:
    work = Work(with_content=with_content)
    work.jobs.files = {"file-t": LINE * 3, "file-v": LINE}
    names = [f"ftjob-{number}" for number in range(20)]
    for name in names:
        await work.finish(name, training_file="file-t", validation_file="file-v")
    outcomes = await work.log(*names[:10])
    outcomes.extend(await work.log(*names[10:]))
    assert outcomes == [ArtifactOutcome(name) for name in names]
    assert work.jobs.calls.count("read_file") == 2
    assert {len(known) for known in work.artifacts.versions.values()} == {1}
    assert len(work.artifacts.logged) == 40
    facts = [work.memory(name).files["training_file_facts"]["rows"] for name in names]
    assert facts == [3] * 20


async def test_content_is_read_again_when_another_project_has_not_got_it() -> None:
    work = Work(with_content=True)
    work.jobs.files = {"file-t": LINE * 3}
    for name, project in (("ftjob-1", "proj"), ("ftjob-2", "other")):
        await work.finish(name, project, training_file="file-t")
        assert await work.log(name) == [ArtifactOutcome(name)]
    first, second = (
        work.artifacts.versions["team", project, "dataset-file-t"] for project in ("proj", "other")
    )
    assert first == second
    assert first[0]["content/file-t"] == LINE * 3
    await work.finish("ftjob-3", "third", training_file="file-t")
    work.jobs.files.clear()
    (outcome,) = await work.log("ftjob-3")
    assert outcome.error == "a data set of the job is gone"


def held(folder: Path) -> int:
    """Return how many bytes lie in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Peak(fakes.Open):
    """Notes the most that the folder holds whenever an artifact is logged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bytes = folder, 0

    async def before(self, call: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.bytes = max(self.bytes, held(self.folder))


async def test_memory_and_disk_hold_few_files_when_many_jobs_have_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    peak = Peak(tmp_path)
    work = Work(with_content=True, artifacts_gate=peak)
    size = 4 * 1024 * 1024
    content = LINE * (size // len(LINE))

    class Streams(fakes.FakeJobs):
        async def describe_file(self, account: Any, file_id: str) -> dict[str, Any]:
            return {"id": file_id, "filename": "t.jsonl", "bytes": len(content)}

        async def read_file(self, account: Any, file_id: str) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 65536):
                yield content[start : start + 65536]
                await asyncio.sleep(0)

    jobs = Streams()
    work.ports = RelayPorts(jobs, work.cursors, work.sink, fakes.FakeKeys(), new_id=fakes.short_id)

    class Forgetful(fakes.FakeArtifacts):
        async def log(self, run: Any, artifact: Any, *, key: Any) -> None:
            await peak.before("log")

    work.jobs, work.log_ = jobs, ArtifactLog(work.ports, Forgetful(), with_content=True)
    names = [f"ftjob-{number}" for number in range(10)]
    for name in names:
        await work.finish(name, training_file=f"{name}-t", validation_file=f"{name}-v")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    assert [one.error for one in await work.log(*names)] == [""] * 10
    used = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # Two jobs at a time, one file each, and its table of at most 1000 rows.
    assert size < peak.bytes < 2 * size + 2 * 1000 * 2200
    assert used < size
    assert held(tmp_path) == 0


async def test_run_has_one_end_when_artifacts_come_after_it() -> None:
    work = Work(with_content=False)
    work.jobs.files = {"file-t": LINE, "file-r": b"step,train_loss\n1,0.5\n"}
    states: list[str] = []

    class Look(fakes.Open):
        async def before(self, call: str) -> None:
            states.append(work.sink.runs["team/proj/ftjob-1"].state)

    work.artifacts.gate = Look()
    raw = {
        "id": "ftjob-1",
        "status": "succeeded",
        "created_at": 1,
        "finished_at": 60,
        "training_file": "file-t",
        "result_files": ["file-r"],
        "fine_tuned_model": "ft:1",
    }
    work.jobs.put(raw)
    now = 100.0

    async def tick() -> bool:
        job = parse_job(raw)
        assert job is not None
        options = RelayOptions(artifacts=True)
        (outcome,) = await relay_account(
            work.account, [job], ports=work.ports, clock=lambda: now, options=options
        )
        return outcome.wants_artifacts

    assert await tick()
    assert await work.log("ftjob-1") == [ArtifactOutcome("ftjob-1")]
    run = work.sink.runs["team/proj/ftjob-1"]
    assert states == ["finished"] * 3
    assert run.attributes.config["training_file_facts"]["rows"] == 1
    for _ in range(6):
        now += 300
        await tick()
    assert (run.state, run.finishes) == ("finished", 1)
    assert work.memory("ftjob-1").artifacts == "done"
    assert await work.log("ftjob-1") == []


async def test_nothing_is_noted_when_the_run_was_lost_meanwhile() -> None:
    work = Work(with_content=False)
    await work.finish("ftjob-1", fine_tuned_model="ft:1")

    class Lose(fakes.Open):
        async def before(self, call: str) -> None:
            cursor = (await work.cursors.read(work.account.key, ["ftjob-1"]))["ftjob-1"]
            cursor.state = {}
            await work.cursors.save([cursor])

    work.artifacts.gate = Lose()
    assert await work.log("ftjob-1") == [ArtifactOutcome("ftjob-1")]
    memory = work.memory("ftjob-1")
    assert (memory.artifacts, work.sink.calls) == ("", [])


async def test_note_is_written_when_another_worker_saved_first() -> None:
    work = Work(with_content=False)
    await work.finish("ftjob-1", fine_tuned_model="ft:1")
    save, lost = work.cursors.save, [1, 1]

    async def busy(cursors: Any) -> Any:
        return {"ftjob-1": ConflictError("busy")} if lost and lost.pop() else await save(cursors)

    work.cursors.save = busy  # type: ignore[method-assign]
    assert await work.log("ftjob-1") == [ArtifactOutcome("ftjob-1")]
    assert work.memory("ftjob-1").artifacts == "done"


async def test_others_are_logged_when_one_job_cannot_be_read() -> None:
    work = Work(with_content=False, jobs_gate=fakes.Once(read_job=UnavailableError("later")))
    for name in ("ftjob-1", "ftjob-2"):
        await work.finish(name, fine_tuned_model="ft:1")
    first, second = await work.log("ftjob-1", "ftjob-2")
    assert (first.error, first.again, second.error) == ("later", True, "")
    assert [run for run, _, _ in work.artifacts.logged] == ["ftjob-2"]


@pytest.mark.parametrize("name", ["ftjob größe", "f" * 200, "ftjob/1"])
async def test_artifact_has_a_name_that_wandb_takes(name: str) -> None:
    work = Work(with_content=False)
    for one in (name, f"{name}x"):
        await work.finish(one, fine_tuned_model="ft:1")
    await work.log(name, f"{name}x")
    names = {artifact for _, artifact, _ in work.artifacts.logged}
    assert len(names) == 2
    assert all(one.isascii() and len(one) <= 128 for one in names)


async def test_checkpoints_of_a_paused_job_are_logged_and_again_at_its_end() -> None:
    work = Work(with_content=False)
    checkpoint = {"id": "c1", "step_number": 1, "metrics": {"full_valid_loss": 0.5}}
    job = work.jobs.put(
        {"id": "ftjob-1", "status": "paused", "created_at": 1}, checkpoints=[checkpoint]
    )
    run = RunPath("team", "proj", "ftjob-1")
    await work.cursors.save([Cursor(work.account.key, "ftjob-1", run=run, status="paused")])
    assert await work.log("ftjob-1") == [ArtifactOutcome("ftjob-1")]
    assert work.memory("ftjob-1").artifacts == ""
    name = ("team", "proj", "checkpoints-ftjob-1")
    assert len(work.artifacts.versions[name]) == 1
    job.checkpoints.append({"id": "c2", "step_number": 2, "metrics": {"full_valid_loss": 0.4}})
    job.body["status"] = "succeeded"
    (cursor,) = (await work.cursors.read(work.account.key, ["ftjob-1"])).values()
    cursor.state = {"ended": True}
    await work.cursors.save([cursor])
    await work.log("ftjob-1")
    assert len(work.artifacts.versions[name]) == 2
    assert work.memory("ftjob-1").artifacts == "done"
