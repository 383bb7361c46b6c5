"""The official public API reads and changes what the W&B stand-in holds."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, WandbServer, wandb_server


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def filled(server: WandbServer, name: str, **fields: Any) -> None:
    """Put a finished run of 2500 rows there, as a direct client would."""
    await server.upsert(name, config='{"lr": {"value": 0.1}}', **fields)
    rows = [{"_step": i, "loss": i / 2} | ({"val": i} if i % 10 == 0 else {}) for i in range(2500)]
    files = {
        "wandb-history.jsonl": {"offset": 0, "content": [json.dumps(row) for row in rows]},
        "wandb-events.jsonl": {"offset": 0, "content": ['{"system.cpu": 5, "_timestamp": 1}']},
        "output.log": {
            "offset": 0,
            "content": [
                "2026-11-24T01:02:03.000004 out",
                "ERROR 2026-11-24T01:02:04.000005 err",
                "no date",
            ],
        },
    }
    await server.stream(name, {"files": files, "complete": True, "exitcode": 0})


async def test_run_reads_back_whole_when_a_direct_client_wrote_it(
    server: WandbServer, tmp_path: Path
) -> None:
    await filled(server, "r", tags=["t"], displayName="nice", groupName="g", jobType="j", notes="n")
    result = await server.sdk(
        tmp_path,
        """
        run = wandb.Api().run("sandbox-team/proj/r")
        rows = list(run.scan_history())
        result = {
            "plain": [run.state, run.config, run.tags, run.name, run.group, run.job_type, run.notes,
                      run.user.username, run.lastHistoryStep, run.system_metrics["system.cpu"]],
            "summary": dict(run.summary),
            "scan": [len(rows), sum(row["loss"] for row in rows), rows[-1]["_step"]],
            "keys": [row["val"] for row in run.scan_history(keys=["val"], page_size=100)],
            "range": [row["_step"] for row in run.scan_history(min_step=10, max_step=13)],
            "history": len(run.history(pandas=False)),
            "sampled": run.history(keys=["loss"], samples=3, pandas=False),
            "events": run.history(stream="events", pandas=False)[0]["system.cpu"],
            "log": [[line.number, line.content, line.level, line.timestamp and str(line.timestamp)]
                    for line in run.console_logs()],
            "tail": [line.content for line in run.console_logs(last=1)],
        }
        """,
    )
    assert result["plain"][:7] == ["finished", {"lr": 0.1}, ["t"], "nice", "g", "j", "n"]
    assert result["plain"][7:] == ["sandbox-user", 2499, 5]
    assert result["summary"] == {"_step": 2499, "loss": 1249.5, "val": 2490}
    assert result["scan"] == [2500, sum(i / 2 for i in range(2500)), 2499]
    assert result["keys"] == list(range(0, 2500, 10))
    assert result["range"] == [10, 11, 12]
    assert result["history"] == 500
    assert [row["_step"] for row in result["sampled"]] == [0, 1250, 2499]
    assert result["events"] == 5
    assert result["log"] == [
        [0, "out", "", "2026-11-24 01:02:03.000004+00:00"],
        [1, "err", "error", "2026-11-24 01:02:04.000005+00:00"],
        [2, "no date", "", None],
    ]
    assert result["tail"] == ["no date"]


async def test_runs_are_found_when_filtered_by_the_public_api(
    server: WandbServer, tmp_path: Path
) -> None:
    for number in range(60):
        config = json.dumps({"number": {"value": number}})
        await server.upsert(f"r{number}", config=config, tags=["even"] if number % 2 == 0 else [])
    await server.stream("r7", {"complete": True, "exitcode": 1})
    result = await server.sdk(
        tmp_path,
        """
        api = wandb.Api()
        path = "sandbox-team/proj"
        def found(**more):
            return [run.id for run in api.runs(path, **more)]
        result = {
            "all": len(found()), "len": len(api.runs(path)),
            "newest": found(order="-created_at")[:2],
            "failed": found(filters={"state": "failed"}),
            "config": found(filters={"config.number": {"$gt": 56}, "tags": {"$in": ["even"]}}),
            "config read": api.runs(path)[3].config,
            "projects": [project.name for project in api.projects("sandbox-team")],
        }
        try:
            api.run(path + "/none")
        except wandb.errors.CommError as error:
            result["none"] = str(error)
        """,
    )
    assert (result["all"], result["len"]) == (60, 60)
    assert result["newest"] == ["r59", "r58"]
    assert result["failed"] == ["r7"]
    assert result["config"] == ["r58"]
    assert result["config read"] == {"number": 3}
    assert result["projects"] == ["proj"]
    assert "Could not find run" in result["none"]


async def test_run_changes_when_the_public_api_changes_it(
    server: WandbServer, tmp_path: Path
) -> None:
    await filled(server, "r")
    await server.upsert("alive")
    result = await server.sdk(
        tmp_path,
        """
        api = wandb.Api()
        pending = Run.create(api, run_id="p", project="proj", entity="sandbox-team",
                             state="pending")
        result = {"created": wandb.Api().run("sandbox-team/proj/p").state,
                  "failed": pending.update_state("failed")}
        run = api.run("sandbox-team/proj/r")
        run.name, run.tags, run.config["lr"] = "renamed", ["new"], 5
        run.summary["best"] = 7
        run.update()
        open("up.txt", "w").write("content")
        uploaded = run.upload_file("up.txt")
        result["file"] = [uploaded.name, uploaded.size,
                          run.file("up.txt").download(root="got").read()]
        run.upload_file("up.txt", root="..")
        run.file("up.txt").delete()
        result["files"] = [file.name.rpartition("/")[2] for file in run.files()]
        api.run("sandbox-team/proj/alive").stop()
        gone = api.run("sandbox-team/proj/p")
        gone.delete()
        api.create_project("fresh", "sandbox-team")
        result["projects"] = [project.name for project in api.projects("sandbox-team")]
        """,
    )
    assert (result["created"], result["failed"]) == ("pending", True)
    assert result["file"] == ["up.txt", 7, "content"]
    assert result["files"] == ["up.txt"]
    assert result["projects"] == ["proj", "fresh"]
    shown = await server.shown("r")
    # An upload does not bring an ended run back.
    assert (shown["state"], shown["display_name"]) == ("finished", "renamed")
    assert (shown["tags"], shown["config"], shown["summary"]["best"]) == (["new"], {"lr": 5}, 7)
    assert (await server.stream("alive", {}))[1]["stopped"] is True
    assert (await server.shown("p"))["deleted"] is True


async def test_key_is_minted_and_deleted_when_the_user_asks(
    server: WandbServer, tmp_path: Path
) -> None:
    await server.control("PUT", "keys", {"key": "a" * 40, "entity": ENTITY, "username": "ann"})
    result = await server.sdk(
        tmp_path,
        """
        viewer = wandb.Api().viewer
        value = viewer.generate_api_key("rotation")
        new = wandb.Api(api_key=value).viewer
        result = {"who": [viewer.username, new.username, new.teams, viewer.entity]}
        run = start("r", settings={"api_key": value})
        run.finish()
        names = wandb.Api().viewer.api_keys
        result["names"] = len(names), value in names
        result["deleted"] = wandb.Api().viewer.delete_api_key(names[1])
        try:
            wandb.Api(api_key=value).viewer
        except wandb.errors.AuthenticationError as error:
            result["dead"] = str(error)
        """,
        key="a" * 40,
    )
    assert result["who"] == ["ann", "ann", [ENTITY], ENTITY]
    assert result["names"] == [2, False]
    assert result["deleted"] is True
    assert "user is not logged in" in result["dead"]
    assert (await server.shown("r"))["state"] == "finished"
    states = [key["state"] for key in await server.control("GET", "keys")]
    assert states == ["active", "revoked"]
