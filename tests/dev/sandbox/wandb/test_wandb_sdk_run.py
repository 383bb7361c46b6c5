"""The official SDK writes runs to the W&B stand-in: init, log, resume, finish, alert, stop."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dev.sandbox.wandb.wandb_fixture import ENTITY, WandbServer, wandb_server


@pytest.fixture
async def server() -> AsyncIterator[WandbServer]:
    async with wandb_server() as running:
        yield running


async def test_run_holds_all_that_was_logged_when_the_sdk_finishes(
    server: WandbServer, tmp_path: Path
) -> None:
    await server.sdk(
        tmp_path,
        """
        run = start("r", config={"lr": 0.1, "n": {"a": 1}}, tags=["a"], notes="note", group="g",
                    job_type="train", name="nice", settings={"x_file_stream_no_gzip": False})
        run.define_metric("*", step_metric="step")
        run.define_metric("loss", step_metric="step", summary="min,last")
        for i in range(5):
            run.log({"step": i, "loss": 1 / (i + 1), "odd": float("nan"), "big": 2**60,
                     "nested": {"deep": i}, "größe": i})
        run.config.update({"later": True})
        run.tags += ("b",)
        run.write_logs("line one\\nline two\\n")
        open("f.txt", "w").write("hello")
        run.save("f.txt")
        run.alert("title", "text", level="WARN", wait_duration=60)
        run.finish()
        """,
    )
    shown = await server.shown("r")
    assert (shown["state"], shown["exitcode"]) == ("finished", 0)
    internal = shown["config"].pop("_wandb")
    assert shown["config"] == {"lr": 0.1, "n": {"a": 1}, "later": True}
    assert internal["t"]["5"] == "0.31.0"
    names = {entry.get("1") or entry.get("2") for entry in internal["m"]}
    assert names == {"*", "loss", "step"}
    assert [row["loss"] for row in shown["history"]] == [1 / (i + 1) for i in range(5)]
    assert shown["history"][3]["nested"] == {"deep": 3}
    assert shown["history"][3]["größe"] == 3
    assert shown["history"][0]["odd"] == "NaN"
    assert shown["history"][0]["big"] == 2**60
    assert shown["summary"]["loss"] == {"min": 0.2, "last": 0.2}
    assert [line.split(" ", 1)[1] for line in shown["output"]] == ["line one", "line two"]
    assert set(shown["files"]) == {"config.yaml", "wandb-summary.json", "f.txt"}
    fields = ("tags", "group", "job_type", "display_name", "notes")
    assert [shown[field] for field in fields] == [["a", "b"], "g", "train", "nice", "note"]
    (alert,) = shown["alerts"]
    assert (alert["title"], alert["severity"], alert["wait_ms"]) == ("title", "WARN", 60000)


async def test_history_goes_on_when_the_sdk_resumes(server: WandbServer, tmp_path: Path) -> None:
    await server.control("PUT", "settings", {"counter_lag_s": 0})
    result = await server.sdk(
        tmp_path,
        """
        run = start("r", config={"lr": 0.1}, resume="allow", tags=["t"], notes="keep")
        for loss in (9, 8, 7):
            run.log({"loss": loss})
        run.finish()
        run = start("r", config={"more": 1}, resume="allow")
        result = [run.starting_step, run.resumed, run.tags, run.notes, dict(run.config)]
        run.log({"loss": 6})
        run.finish(exit_code=3)
        """,
    )
    assert result == [3, True, ["t"], "keep", {"lr": 0.1, "more": 1}]
    shown = await server.shown("r")
    assert [(row["_step"], row["loss"]) for row in shown["history"]] == [
        (0, 9),
        (1, 8),
        (2, 7),
        (3, 6),
    ]
    assert (shown["state"], shown["exitcode"]) == ("failed", 3)


async def test_sdk_takes_over_when_a_direct_client_began_the_run(
    server: WandbServer, tmp_path: Path
) -> None:
    await server.control("PUT", "settings", {"counter_lag_s": 0})
    await server.upsert("r", state="pending", config='{"_wandb": {"value": {"t": {"12": "x"}}}}')
    await server.rows("r", 0, '{"_step": 0, "loss": 3}', '{"_step": 10, "loss": 2}')
    await server.sdk(
        tmp_path,
        """
        run = start("r", resume="must")
        run.log({"loss": 1})
        run.finish()
        """,
    )
    shown = await server.shown("r")
    assert [(row["_step"], row["loss"]) for row in shown["history"]] == [(0, 3), (10, 2), (11, 1)]
    assert shown["state"] == "finished"


async def test_init_fails_with_the_servers_words_when_it_may_not_write(
    server: WandbServer, tmp_path: Path
) -> None:
    await server.upsert("gone")
    await server.control("DELETE", f"runs/{ENTITY}/proj/gone")
    await server.control("PUT", "keys", {"key": "d" * 40, "state": "revoked"})
    await server.control("PUT", "keys", {"key": "w" * 40, "write": ["elsewhere"]})
    result = await server.sdk(
        tmp_path,
        """
        result = {}
        for name, more in {
            "revoked": {"api_key": "d" * 40},
            "foreign": {"api_key": "w" * 40},
            "gone": {"api_key": "k" * 40, "init_timeout": 5},
        }.items():
            try:
                start(name, settings=more)
            except wandb.errors.CommError as error:
                result[name] = str(error)
        result["login"] = wandb.login(key="k" * 40, verify=True, relogin=True)
        try:
            wandb.login(key="d" * 40, verify=True, relogin=True)
        except wandb.errors.AuthenticationError as error:
            result["bad login"] = str(error)
        """,
    )
    assert result.pop("login") is True
    assert "user is not logged in" in result["bad login"]
    assert "user is not logged in" in result["revoked"]
    assert "permission denied" in result["foreign"]
    assert "was previously created and deleted" in result["gone"]
    assert await server.control("GET", "runs") == []
    seen = await server.control("GET", "requests-by-key")
    counts = {(r["run"], r["operation"]): r["count"] for r in seen}
    assert counts[f"{ENTITY}/proj/foreign", "UpsertBucket"] == 1
    # The SDK retries the 409 until its time is up.
    assert counts[f"{ENTITY}/proj/gone", "UpsertBucket"] > 1


@pytest.mark.parametrize(
    "action",
    [{"drop": "after"}, {"drop": "before"}, {"status": 503}],
    ids=["answer lost", "request lost", "busy"],
)
async def test_every_row_is_there_once_when_a_post_goes_wrong(
    server: WandbServer, tmp_path: Path, action: dict[str, Any]
) -> None:
    fault = {"service": "wandb", "path_contains": "file_stream", "times": 1, "action": action}
    await server.sdk(
        tmp_path,
        f"""
        import time, urllib.request
        run = start("r")
        run.log({{"loss": 0}})
        time.sleep(1)  # the first post leaves at once, the next one carries the rows
        body = json.dumps({fault!r}).encode()
        urllib.request.urlopen("{server.url}/_sandbox/faults", body).read()
        for i in range(1, 200):
            run.log({{"loss": i}})
        run.finish()
        """,
    )
    shown = await server.shown("r")
    assert [row["loss"] for row in shown["history"]] == list(range(200))
    assert shown["state"] == "finished"
    _, faults = await server.call("GET", "/_sandbox/faults", key=None)
    assert faults[0]["times"] == 0


async def test_stop_reaches_the_sdk_when_it_is_pressed(server: WandbServer, tmp_path: Path) -> None:
    result = await server.sdk(
        tmp_path,
        f"""
        import threading, urllib.request
        stopped = threading.Event()
        run = start("r", settings={{"stop_fn": stopped.set, "x_file_stream_transmit_interval": 1}})
        url = "{server.url}/_sandbox/wandb/runs/{ENTITY}/proj/r/stop"
        urllib.request.urlopen(urllib.request.Request(url, method="POST")).read()
        for i in range(40):
            run.log({{"i": i}})
            if stopped.wait(1):
                break
        result = stopped.is_set()
        run.finish()
        """,
    )
    assert result is True
