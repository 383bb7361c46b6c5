"""Artifacts through the official SDK in a process of its own: what arrives, and what cannot hurt."""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.model.cursor import RunPath
from finetune_wandb.model.errors import UnavailableError
from finetune_wandb.model.relay_ports import ArtifactFile, JobArtifacts, RunKey
from finetune_wandb.model.secret import Secret
from tests.dev.sandbox.wandb.wandb_fixture import WandbServer, wandb_server

VALUE = "wandb_v1_" + "q" * 77
KEY = RunKey("sandbox-team", Secret(VALUE))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def run_in(server: WandbServer, name: str) -> RunPath:
    """Make a run as the relay makes it, with two rows and its end."""
    await server.upsert(name, config='{"_wandb":{"value":{"t":{"12":"relay"}}}}')
    rows = [f'{{"step":{n},"loss":0.5,"_step":{n},"_timestamp":{n}}}' for n in range(2)]
    await server.rows(name, 0, *rows)
    status, _ = await server.stream(name, {"files": {}, "complete": True, "exitcode": 0})
    assert status == 200
    return RunPath("sandbox-team", "proj", name)


def task(run: RunPath, folder: Path, **more: Any) -> JobArtifacts:
    result = folder / "result"
    result.write_text("step,train_loss\n1,0.5\n")
    facts = {"id": "file-1", "name": "train.jsonl", "bytes": 5, "rows": 1, "sha256": "ab"}
    given: dict[str, Any] = {
        "job": run.run_id,
        "run": run,
        "exit_code": 0,
        "files": (
            ArtifactFile(role="training", id="file-1", metadata=facts),
            ArtifactFile(role="result", id="file-r", metadata={"rows": 2}, path=str(result)),
        ),
        "checkpoint_columns": ("step", "model", "loss"),
        "checkpoint_rows": ((5, "m:ckpt-5", 0.5), (10, "m:ckpt-10", None)),
        "model": {"fine_tuned_model": "m", "base_model": "b"},
    }
    return JobArtifacts(**{**given, **more})


async def test_each_has_its_name_when_a_job_has_several_result_files(
    server: WandbServer, tmp_path: Path
) -> None:
    run = await run_in(server, "ftjob-1")
    made = task(run, tmp_path)
    more = replace(made.files[1], id="file-r2", metadata={"rows": 1})
    (result,) = await Artifacts(server.url).log([replace(made, files=(*made.files, more))], key=KEY)
    assert result.error == ""
    shown = await server.shown("ftjob-1")
    names = {one["name"] for one in shown["artifacts_logged"] if one["type"] == "result"}
    assert names == {"results-ftjob-1:v0", "results-ftjob-1.2:v0"}


def _digests(shown: Any) -> list[tuple[str, str]]:
    found = [*shown["artifacts_logged"], *shown["artifacts_used"]]
    return sorted((one["name"], one["digest"]) for one in found)


async def test_lineage_is_logged_when_a_job_is_over(server: WandbServer, tmp_path: Path) -> None:
    run = await run_in(server, "ftjob-1")
    artifacts = Artifacts(server.url)
    (result,) = await artifacts.log([task(run, tmp_path)], key=KEY)
    assert (result.error, result.lost) == ("", False)
    shown = await server.shown("ftjob-1")
    logged = {one["name"].split(":")[0]: one for one in shown["artifacts_logged"]}
    assert {name: one["type"] for name, one in logged.items()} == {
        "results-ftjob-1": "result",
        "checkpoints-ftjob-1": "checkpoints",
        "model-ftjob-1": "model",
    }
    assert "results.csv" in logged["results-ftjob-1"]["files"]
    assert json.loads(logged["model-ftjob-1"]["metadata"])["base_model"] == "b"
    (used,) = shown["artifacts_used"]
    assert (used["type"], json.loads(used["metadata"])["sha256"]) == ("dataset", "ab")
    assert used["files"] == ["facts.json"]
    assert (shown["state"], shown["exitcode"]) == ("finished", 0)
    assert [row["step"] for row in shown["history"]] == [0, 1]
    # Again, as after a lost message: the same contents are no new versions.
    (result,) = await artifacts.log([task(run, tmp_path)], key=KEY)
    assert result.error == ""
    again = await server.shown("ftjob-1")
    assert _digests(again) == _digests(shown)
    assert all(one["name"].endswith(":v0") for one in again["artifacts_logged"])


async def test_a_data_set_has_one_version_in_each_project_when_jobs_of_two_share_it(
    server: WandbServer, tmp_path: Path
) -> None:
    runs = [await run_in(server, f"ftjob-{n}") for n in range(3)]
    await server.upsert("ftjob-other", modelName="other", config='{"_wandb":{"value":{"t":{}}}}')
    other = RunPath("sandbox-team", "other", "ftjob-other")
    jobs = [task(run, tmp_path) for run in runs]
    shared = jobs[0].files[0]
    # The other project's job is the first to log it: the three are still at files of their own.
    own = [[replace(shared, id=f"file-{n}-{more}") for more in range(2)] for n in range(3)]
    jobs = [replace(job, files=(*mine, shared)) for job, mine in zip(jobs, own, strict=True)]
    results = await Artifacts(server.url).log(
        [task(other, tmp_path, files=(shared,)), *jobs], key=KEY
    )
    assert [result.error for result in results] == [""] * 4
    used = [(await server.shown(run.run_id))["artifacts_used"] for run in runs]
    assert ["dataset-file-1:v0" in {one["name"] for one in found} for found in used] == [True] * 3


async def test_other_jobs_are_logged_when_one_of_them_cannot_be(
    server: WandbServer, tmp_path: Path
) -> None:
    known = await run_in(server, "ftjob-1")
    odd = await run_in(server, "ftjob größe")
    gone = RunPath("sandbox-team", "proj", "ftjob-gone")
    results = await Artifacts(server.url).log(
        [task(gone, tmp_path), task(known, tmp_path), task(odd, tmp_path, exit_code=1)], key=KEY
    )
    assert [bool(result.error) for result in results] == [True, False, False], results
    assert [result.job for result in results] == ["ftjob-gone", "ftjob-1", "ftjob größe"]
    shown = await server.shown("ftjob gr%C3%B6%C3%9Fe")
    assert (shown["state"], len(shown["artifacts_logged"])) == ("failed", 3)
    assert all(one["name"].isascii() for one in shown["artifacts_logged"])


async def test_error_does_not_show_the_key_when_wandb_refuses_it(
    server: WandbServer, tmp_path: Path
) -> None:
    run = await run_in(server, "ftjob-1")
    await server.control("PUT", "settings", {"default_keys": "reject"})
    (result,) = await Artifacts(server.url).log([task(run, tmp_path)], key=KEY)
    assert result.error
    assert VALUE not in repr(result)


def _processes(marker: str) -> Iterator[tuple[int, bytes]]:
    """Yield id and everything public of the processes that have the marker in it."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            shown = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in shown:
            yield int(folder.name), shown


async def test_key_is_nowhere_to_be_seen_while_artifacts_are_logged(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of this test alone: other tests log artifacts at the same time.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    homes = f"HOME={tmp_path / 'wandb-'}"
    run = await run_in(server, "ftjob-1")
    fault = {"service": "wandb", "path_contains": "graphql", "times": 4, "action": {"delay_s": 1}}
    status, _ = await server.call("POST", "/_sandbox/faults", fault, key=None)
    assert status < 300
    work = asyncio.create_task(Artifacts(server.url).log([task(run, tmp_path)], key=KEY))
    seen: set[int] = set()
    while not work.done():
        # Every process of the logging has its own folder as HOME.
        for number, shown in _processes(homes):
            assert VALUE.encode() not in shown
            assert b"AZURE" not in shown.upper()
            seen.add(number)
        await asyncio.sleep(0.05)
    assert len(seen) >= 2, "neither the process nor the SDK's core was seen"
    assert (await work)[0].error == ""
    assert not list(_processes(homes))


# Faults, with a process that misbehaves on purpose


def jobs(*names: str) -> list[JobArtifacts]:
    return [
        JobArtifacts(job=name, run=RunPath("e", "p", f"run-{name}"), exit_code=0) for name in names
    ]


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return Artifacts(
        "http://nowhere", module="tests.clients.artifact_faults", start_s=3, per_job_s=0
    )


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


async def test_jobs_before_are_kept_when_the_process_hangs(
    faulty: Artifacts, tmp_path: Path
) -> None:
    started = time.monotonic()
    done, hung, after = await faulty.log(jobs("good", "hang", "later"), key=KEY)
    assert time.monotonic() - started < 20
    assert (done.error, done.logged) == ("", ("one",))
    assert (hung.error, hung.lost) == ("logging artifacts took too long", True)
    assert after.lost
    child = int((tmp_path / "child.pid").read_text())
    for _ in range(40):
        if not _alive(child):
            break
        await asyncio.sleep(0.05)
    assert not _alive(child), "what the process had started outlived it"


@pytest.mark.parametrize("fault", ["crash", "garbage"])
async def test_jobs_before_are_kept_when_the_process_dies(faulty: Artifacts, fault: str) -> None:
    done, dead = await faulty.log(jobs("chatter", fault), key=KEY)
    assert (done.error, done.lost) == ("", False)
    assert "ended early" in dead.error
    assert dead.lost


@pytest.mark.parametrize("fault", ["crash", "garbage"])
async def test_it_is_temporary_when_the_process_comes_to_nothing(
    faulty: Artifacts, fault: str
) -> None:
    with pytest.raises(UnavailableError) as caught:
        await faulty.log(jobs(fault), key=KEY)
    assert VALUE not in str(caught.value)


async def test_every_result_is_known_when_many_ask_and_the_sdk_chatters(faulty: Artifacts) -> None:
    many = (faulty.log(jobs("chatter"), key=KEY) for _ in range(4))
    results = await asyncio.gather(*many)
    assert [one.logged for (one,) in results] == [("one",)] * 4


async def test_a_run_is_logged_to_by_one_process_at_a_time_when_two_messages_name_its_job(
    faulty: Artifacts,
) -> None:
    both = (faulty.log(jobs(*names), key=KEY) for names in (("alone",), ("good", "alone")))
    first, second = await asyncio.gather(*both)
    assert [one.error for one in (*first, *second)] == ["", "", ""]
