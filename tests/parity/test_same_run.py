"""The same job written by the SDK and by us: what the server holds of both is compared.

What differs on purpose is listed here, each with its reason; see also docs/run-contents.md.
"""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, WandbServer
from tests.parity.ours import JOB, STEPS, Ours

pytestmark = pytest.mark.sandbox_only

_SDK = """
    run = start("sdk", name="nice", group="gpt-4o-mini", job_type="fine-tune",
                tags=["azure-openai", "a", "b"], notes={notes!r}, config={config!r})
    run.define_metric("*", step_metric="step")
    run.write_logs("Training started.\\n")
    for step in range(1, 31):
        row = {{"step": step, "train_loss": 2.0 / step,
                "train_mean_token_accuracy": 1 - 1 / step}}
        if step % 10 == 0:
            row["valid_loss"] = 2.5 / step
        run.log(row)
    run.write_logs("Completed results file.\\n")
    run.finish(exit_code={code})
"""


@pytest.fixture
async def ours(server: WandbServer) -> AsyncIterator[Ours]:
    made = Ours(server)
    yield made
    await made.close()


async def both(
    server: WandbServer, ours: Ours, folder: Path, status: str, code: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the job both ways; return what the server holds: (the SDK's, ours)."""
    await ours.write(status)
    mine = await server.shown(JOB)
    config = {name: value for name, value in mine["config"].items() if name != "_wandb"}
    await server.sdk(folder, _SDK.format(notes=mine["notes"], config=config, code=code))
    return await server.shown("sdk"), mine


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1)])
async def test_server_holds_the_same_when_the_sdk_and_we_write_a_job(
    server: WandbServer, ours: Ours, tmp_path: Path, status: str, code: int
) -> None:
    sdk, mine = await both(server, ours, tmp_path, status, code)
    for field in ("state", "exitcode", "tags", "group", "job_type", "display_name", "notes"):
        assert mine[field] == sdk[field], field

    # Times are the job's own with us, and those of writing with the SDK.
    def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in row.items() if name not in ("_timestamp", "_runtime")}
            for row in rows
        ]

    assert plain(mine["history"]) == plain(sdk["history"])
    assert all({"_timestamp", "_runtime"} <= set(row) for row in mine["history"])
    assert [type(row["_step"]) for row in mine["history"]] == [int] * len(STEPS)

    assert _text(mine["output"]) == _text(sdk["output"])

    config, sdk_config = dict(mine["config"]), dict(sdk["config"])
    internal, sdk_internal = config.pop("_wandb"), sdk_config.pop("_wandb")
    assert config == sdk_config
    assert _axes(internal["m"]) == _axes(sdk_internal["m"])
    # The object by which the SDK knows a run that it may resume.
    assert isinstance(internal["t"], dict)
    assert internal["t"]


async def test_summary_has_all_that_the_sdks_has_when_a_job_is_written(
    server: WandbServer, ours: Ours, tmp_path: Path
) -> None:
    sdk, mine = await both(server, ours, tmp_path, "succeeded", 0)
    for name, value in sdk["summary"].items():
        if name in ("_timestamp", "_runtime", "_wandb"):
            assert type(mine["summary"][name]) in (type(value), float, int), name
        else:
            assert mine["summary"][name] == value, name
    # Ours says more: the job's outcome and the best values, which W&B does not derive.
    more = set(mine["summary"]) - set(sdk["summary"])
    assert {"status", "best/valid_loss", "best/valid_loss_step", "total_seconds"} <= more


async def test_infinity_is_the_same_when_both_write_it(
    server: WandbServer, ours: Ours, tmp_path: Path
) -> None:
    job = ours.stage.api.put({"id": JOB, "status": "succeeded", "model": "m"})
    values = {"loss": math.inf, "other": -math.inf, "big": 2**62, "small": 5e-324, "größe": 1}
    job.events = [{"id": "e", "created_at": 5, "data": {"step": 1, **values}}]
    await ours.tick()
    mine = (await server.shown(JOB))["history"]
    await server.sdk(
        tmp_path,
        """
        run = start("sdk")
        run.log({"step": 1, "loss": float("inf"), "other": float("-inf"), "big": 2**62,
                 "small": 5e-324, "größe": 1})
        run.finish()
        """,
    )
    (theirs,) = (await server.shown("sdk"))["history"]
    (row,) = mine
    assert {name: row[name] for name in ("step", *values)} == {
        name: theirs[name] for name in ("step", *values)
    }


@pytest.mark.parametrize("how", ["must", "allow"])
async def test_sdk_goes_on_behind_our_rows_when_it_resumes_our_run(
    server: WandbServer, ours: Ours, tmp_path: Path, how: str
) -> None:
    await server.control("PUT", "settings", {"counter_lag_s": 0})
    await ours.write()
    before = await server.shown(JOB)
    result = await server.sdk(
        tmp_path,
        f"""
        run = start({JOB!r}, resume={how!r})
        result = [run.resumed, run.starting_step, dict(run.config)["job_id"], list(run.tags),
                  run.summary["train_loss"]]
        run.log({{"step": 31, "train_loss": 0.01}})
        run.finish()
        """,
    )
    last = before["summary"]["train_loss"]
    assert result == [True, len(STEPS), JOB, before["tags"], last]
    after = await server.shown(JOB)
    assert after["history"][: len(STEPS)] == before["history"]
    assert [row["_step"] for row in after["history"]] == list(range(len(STEPS) + 1))
    assert after["state"] == "finished"
    assert {**after["config"], "_wandb": 0} == {**before["config"], "_wandb": 0}


async def test_api_reads_our_run_when_it_is_written(
    server: WandbServer, ours: Ours, tmp_path: Path
) -> None:
    await ours.write()
    shown = await server.shown(JOB)
    result = await server.sdk(
        tmp_path,
        f"""
        run = wandb.Api(api_key="{"k" * 40}").run("{ENTITY}/proj/{JOB}")
        result = {{
            "state": run.state, "name": run.name, "group": run.group, "job_type": run.job_type,
            "tags": list(run.tags), "config": run.config, "summary": dict(run.summary),
            "rows": list(run.scan_history()), "last": run.lastHistoryStep,
            "keys": sorted(run.scan_history(keys=["step", "valid_loss"]).__iter__().__next__()),
        }}
        """,
    )
    assert (result["state"], result["name"]) == ("finished", "nice")
    assert (result["group"], result["job_type"]) == ("gpt-4o-mini", "fine-tune")
    assert result["tags"] == ["azure-openai", "a", "b"]
    assert result["config"]["hyperparameters"]["n_epochs"] == 2
    assert result["summary"]["status"] == "succeeded"
    assert result["rows"] == shown["history"]
    assert result["last"] == len(STEPS) - 1
    assert result["keys"] == ["_step", "step", "valid_loss"]


def _text(lines: list[str]) -> list[str]:
    """Return console lines without their times."""
    return [line.split(" ", 1)[1] for line in lines]


def _axes(entries: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return (metric or glob, its x axis); the order of entries is the client's own."""
    found = set()
    for entry in entries:
        name = entry.get("1") or entry.get("2") or ""
        axis = entries[entry["5"] - 1]["1"] if "5" in entry else ""
        found.add((name, axis))
    return found
