"""Artifacts of finished jobs, read back by `wandb.Api`: what is in them, what is not, and retries."""

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.sandbox.wandb.artifacts import Blob
from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.relay.artifacts import ArtifactLog, ArtifactOutcome
from finetune_wandb.relay.data_set import COLUMNS
from tests.e2e.relay import reader
from tests.e2e.relay.stage import KEY, START, Stage, job, metric

DATA_SETS = Path(__file__).parents[4] / "shared" / "samples" / "29_dataset_first_lines"
FORMATS = {
    "sft_chat": "chat",
    "sft_toolcall": "tools",
    "sft_vision_chartqa": "vision",
    "sft_multiturn_weight": "turns",
    "dpo_orca": "preference",
    "rft_countdown": "reinforcement",
    "rft_medmcq": "reinforcement",
}
RESULT = "step,train_loss,valid_loss\n1,0.5,\n2,0.25,0.75\n"
CHECKPOINTS = [
    {
        "id": f"c{step}",
        "created_at": int(START) + step,
        "step_number": step,
        "fine_tuned_model_checkpoint": f"ft:ckpt-step-{step}",
        "metrics": {"step": step, "full_valid_loss": loss},
    }
    for step, loss in ((10, 0.5), (20, 0.25), (30, 0.375))
]


async def finish(stage: Stage, job_id: str = "ftjob-1", **more: Any) -> None:
    """Put a finished job and relay it to its end."""
    stage.options = replace(stage.options, artifacts=True)
    status = more.pop("status", "succeeded")
    files = more.pop("files", {"file-training": {"filename": "t.jsonl", "content": "{}\n"}})
    over = job(
        job_id,
        status,
        finished_at=int(START) + 90,
        **({"fine_tuned_model": "ft:one", "trained_tokens": 5} if status == "succeeded" else {}),
        **more.pop("job", {}),
    )
    await stage.put(over, events=[metric(1, job_id)], files=files, **more)
    await stage.tick()


async def logged(stage: Stage, *job_ids: str, with_content: bool = False) -> list[ArtifactOutcome]:
    sink = Artifacts(stage.transport, stage.url)
    artifacts = ArtifactLog(stage.ports, sink, with_content=with_content)
    return await artifacts.log(stage.account, job_ids or ["ftjob-1"], budget_s=60)


async def fault(stage: Stage, service: str, path: str, times: int, action: Any) -> None:
    body = {"service": service, "path_contains": path, "times": times, "action": action}
    session = stage.transport.session()
    async with session.post(f"{stage.url}/_sandbox/faults", json=body) as answer:
        assert answer.status < 300


async def read(stage: Stage, job_id: str = "ftjob-1") -> dict[str, Any]:
    path = f"sandbox-team/proj/{job_id}"
    return dict((await reader.read(stage.url, KEY, [path]))[path])


@pytest.mark.skipif(not DATA_SETS.is_dir(), reason="the samples lie beside the repository")
async def test_every_row_format_is_a_table_when_content_is_wanted(on_stage: Stage) -> None:
    names = list(FORMATS)
    for name in names:
        content = (DATA_SETS / f"{name}.jsonl").read_text()
        await finish(
            on_stage,
            f"ftjob-{name}",
            job={"training_file": f"file-{name}"},
            files={f"file-{name}": {"filename": f"{name}.jsonl", "content": content}},
        )
    outcomes = await logged(on_stage, *(f"ftjob-{name}" for name in names), with_content=True)
    assert [outcome.error for outcome in outcomes] == [""] * len(names)
    paths = [f"sandbox-team/proj/ftjob-{name}" for name in names]
    runs = await reader.read(on_stage.url, KEY, paths)
    for name, path in zip(names, paths, strict=True):
        lines = (DATA_SETS / f"{name}.jsonl").read_text().splitlines()
        (used,) = runs[path]["used"]
        table = used["tables"]["rows"]
        assert table["columns"] == list(COLUMNS)
        assert len(table["data"]) == len([line for line in lines if line.strip()])
        for number, row in enumerate(table["data"]):
            shown = dict(zip(COLUMNS, row, strict=True))
            assert shown["format"] == FORMATS[name], name
            _shows(shown, json.loads(lines[number]))
        assert f"content/{name}.jsonl" in used["files"]


def _shows(shown: dict[str, Any], item: dict[str, Any]) -> None:
    """Assert that a table's row shows what its line of the data set says."""
    given = item.get("input", item)
    messages = given["messages"]
    first = messages[0]["content"]
    text = first if isinstance(first, str) else first[0]["text"]
    assert text[:40] in shown["input"]
    if "preferred_output" in item:
        assert item["preferred_output"][0]["content"][:40] in shown["output"]
        assert item["non_preferred_output"][0]["content"][:40] in shown["rejected"]
    elif messages[-1]["role"] == "assistant":
        assert shown["output"].startswith("assistant")
    if item.get("tools"):
        assert item["tools"][0]["function"]["name"] in shown["tools"]
    for name in set(item) - {"messages", "tools", "input"} - {"preferred_output"}:
        if name not in ("non_preferred_output", "parallel_tool_calls"):
            assert name in shown["reference"]


async def test_content_stays_away_when_metadata_alone_is_wanted(on_stage: Stage) -> None:
    content = '{"messages": [{"role": "user", "content": "PRIVATE"}]}\n' * 3
    await finish(
        on_stage,
        job={"validation_file": "file-v"},
        files={
            "file-training": {"filename": "train.jsonl", "content": content},
            "file-v": {"filename": "valid.jsonl", "content": content[:-1]},
        },
        result_csv=RESULT,
        checkpoints=CHECKPOINTS,
    )
    await on_stage.tick(60)
    before = on_stage.run("ftjob-1")
    (outcome,) = await logged(on_stage)
    assert outcome.error == ""
    run = await read(on_stage)
    facts = {
        "id": "file-training",
        "name": "train.jsonl",
        "bytes": len(content),
        "rows": 3,
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
    }
    used = {one["metadata"]["id"]: one for one in run["used"]}
    assert used["file-training"]["metadata"] == facts
    assert used["file-v"]["metadata"]["rows"] == 3
    assert all(one["files"] == ["facts.json"] for one in run["used"])
    assert run["config"]["training_file_facts"] == facts
    assert "PRIVATE" not in json.dumps(run)
    assert all(b"PRIVATE" not in (blob.data or b"") for blob in _blobs(on_stage))
    by_type = {one["type"]: one for one in run["logged"]}
    assert by_type["result"]["files"] == ["facts.json", "results.csv"]
    assert by_type["model"]["metadata"]["fine_tuned_model"] == "ft:one"
    assert by_type["model"]["metadata"]["training_file"] == facts
    assert by_type["checkpoints"]["tables"]["checkpoints"] == {
        "columns": ["step", "model", "full_valid_loss"],
        "data": [
            [
                one["step_number"],
                one["fine_tuned_model_checkpoint"],
                one["metrics"]["full_valid_loss"],
            ]
            for one in CHECKPOINTS
        ],
    }
    # The run is as it ended, and W&B has heard of no second end.
    after = on_stage.run("ftjob-1")
    kept = ("state", "exitcode", "posts", "summary", "history", "output", "tags", "group", "notes")
    for name in kept:
        assert after[name] == before[name], name
    assert after["summary"]["best_checkpoint/model"] == "ft:ckpt-step-20"
    assert on_stage.cursor("ftjob-1").state["artifacts"] == "done"
    # Nothing is left to do, and late looks change nothing.
    assert await logged(on_stage) == []
    await on_stage.settled()
    assert on_stage.run("ftjob-1")["state"] == "finished"
    assert await read(on_stage) == await read(on_stage)


def _blobs(stage: Stage) -> list[Blob]:
    files = [run.files for one in stage.hub.projects.values() for run in one.runs.values()]
    return [*(blob for held in files for blob in held.values()), *stage.hub.blobs.by_token.values()]


@pytest.mark.parametrize("with_content", [False, True])
async def test_result_file_with_text_is_content(on_stage: Stage, with_content: bool) -> None:
    text = 'step,train_loss,answer\n1,0.5,"SAID, privately"\n'
    await finish(on_stage, result_csv=text, result_encoding="base64")
    await on_stage.tick(60)
    await logged(on_stage, with_content=with_content)
    (result,) = [one for one in (await read(on_stage))["logged"] if one["type"] == "result"]
    assert ("results.csv" in result["files"]) == with_content
    assert result["metadata"]["bytes"] == len(text)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_lineage_is_logged_when_a_job_did_not_succeed(on_stage: Stage, status: str) -> None:
    await finish(on_stage, status=status, checkpoints=CHECKPOINTS[:1])
    (outcome,) = await logged(on_stage)
    assert outcome.error == ""
    run = await read(on_stage)
    assert run["state"] == "failed"
    assert [one["type"] for one in run["used"]] == ["dataset"]
    assert [one["type"] for one in run["logged"]] == ["checkpoints"]


async def test_run_is_finished_at_every_moment_while_artifacts_are_logged(
    on_stage: Stage,
) -> None:
    await finish(on_stage, result_csv=RESULT, checkpoints=CHECKPOINTS)
    await on_stage.tick(60)
    before = on_stage.run("ftjob-1")
    assert before["state"] == "finished"
    await fault(on_stage, "wandb", "graphql", 40, {"delay_s": 0.03})
    work = asyncio.create_task(logged(on_stage))
    looks = 0
    while not work.done():
        now = on_stage.run("ftjob-1")
        assert (now["state"], now["exitcode"], now["posts"]) == ("finished", 0, before["posts"])
        assert (now["tags"], now["summary"]) == (before["tags"], before["summary"])
        looks += 1
        await asyncio.sleep(0.01)
    assert [outcome.error for outcome in await work] == [""]
    assert looks > 20
    assert len(on_stage.run("ftjob-1")["artifacts_logged"]) == 3


async def test_run_stays_as_it_ended_when_logging_fails(on_stage: Stage) -> None:
    await finish(on_stage)
    before = on_stage.run("ftjob-1")
    await fault(on_stage, "wandb", "/storage/", 4, {"status": 503, "headers": {}, "body": {}})
    (outcome,) = await logged(on_stage)
    assert outcome.again
    assert on_stage.run("ftjob-1") == before
    assert on_stage.cursor("ftjob-1").state["artifacts"] != "done"
    (outcome,) = await logged(on_stage)
    assert outcome.error == ""


async def test_it_is_asked_again_when_a_file_cannot_be_read_now(on_stage: Stage) -> None:
    await finish(on_stage)
    gone = {"status": 503, "headers": {}, "body": {}}
    await fault(on_stage, "openai", "/files/file-training/content", 1, gone)
    (outcome,) = await logged(on_stage)
    assert outcome.again
    (outcome,) = await logged(on_stage)
    assert outcome.error == ""
    assert (await read(on_stage))["used"][0]["metadata"]["rows"] == 1


async def test_facts_are_what_is_known_when_a_file_is_gone(on_stage: Stage) -> None:
    await finish(on_stage, files={}, job={"result_files": ["file-gone"]})
    (outcome,) = await logged(on_stage)
    assert outcome.error == ""
    run = await read(on_stage)
    assert run["config"]["training_file_facts"] == {"id": "file-training"}
    assert [one["type"] for one in run["logged"]] == ["model"]


async def test_late_values_and_artifacts_do_not_hurt_each_other(on_stage: Stage) -> None:
    await finish(on_stage)
    over = job(status="succeeded", finished_at=int(START) + 90)
    await on_stage.put(over, events=[metric(1), metric(2), metric(3)], result_csv=RESULT)
    _, outcomes = await asyncio.gather(on_stage.tick(10), logged(on_stage))
    assert outcomes[0].error == ""
    await on_stage.settled()
    run = on_stage.run("ftjob-1")
    assert (run["state"], run["exitcode"]) == ("finished", 0)
    losses = [(row["step"], row["train_loss"]) for row in run["history"] if "train_loss" in row]
    assert sorted(losses) == [(1, 0.5), (2, 1 / 3), (3, 0.25)]
    assert run["summary"]["train_loss"] == 0.25
