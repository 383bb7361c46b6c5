"""The scenario table, end to end: every job through the local host, its run read by `wandb.Api`.

All jobs are relayed at the same time, phase after phase. What a run must hold is worked out from
the published objects alone.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from dev.tools.demo.cloud import until
from dev.tools.demo.values import Published, compare
from tests.e2e.driver import ENDED, KEY, PROJECT, Driver, published_by, running
from tests.e2e.relay import reader
from tests.e2e.relay.quirks import quirks
from tests.e2e.relay.scenarios import Json, Scenario, outcomes, separate

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

TABLE = separate([*outcomes(), *quirks()])
TERMINAL = ("succeeded", "failed", "cancelled")
Seen = dict[str, Json]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Seen]:
    """Play the table; return each job's run, console lines and entry in the status."""
    folder = tmp_path_factory.mktemp("run")
    async with running(folder, host_env={"ARTIFACTS": "off"}) as driver:
        accounts = [await driver.onboard(), await driver.onboard()]
        for phase in range(max(len(scenario.phases) for scenario in TABLE)):
            await asyncio.gather(
                *(
                    driver.put_job(accounts[number % 2], one.job_id, **one.phases[phase])
                    for number, one in enumerate(TABLE)
                    if phase < len(one.phases)
                )
            )
            await _relayed(driver, phase)
        shown = {job["id"]: job for job in (await driver.status())["jobs"]}
        paths = [f"{PROJECT}/{one.job_id}" for one in TABLE]
        runs = await reader.read(driver.stack.wandb_url, KEY, paths)
        found: Seen = {}
        for one, path in zip(TABLE, paths, strict=True):
            held = await driver.run(path)
            assert held is not None, path
            found[one.name] = {
                "run": runs[path],
                "output": held["output"],
                "shown": shown[one.job_id],
            }
        log = driver.host_log()
        assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
        yield found


async def _relayed(driver: Driver, phase: int) -> None:
    """Wait until every job's phase has reached its run."""
    last: dict[str, Any] = {}

    async def look() -> bool | None:
        jobs = {job["id"]: job for job in (await driver.status())["jobs"]}
        last.clear()
        for one in TABLE:
            until_now = _until(one, phase)
            wanted = until_now["job"]["status"]
            is_over = wanted in TERMINAL
            values = len(
                published_by(until_now if is_over else {"events": until_now.get("events", ())})
            )
            job = jobs.get(one.job_id)
            if job is None or job["status"] != wanted or job["values"] < values or job["error"]:
                last[one.name] = (wanted, values, job)
            elif is_over and job["state"] not in ENDED:
                last[one.name] = (wanted, "not ended", job)
        return None if last else True

    await until(look, lambda: f"phase {phase}: {last}", seconds=60, every=0.5)


def _until(one: Scenario, phase: int) -> Json:
    whole: Json = {}
    for body in one.phases[: phase + 1]:
        whole.update(body)
    return whole


def _expected(one: Scenario) -> Published:
    last = one.last
    if last["job"]["status"] not in TERMINAL:
        # Checkpoints and result file are read once the job is over.
        last = {"events": last.get("events", ())}
    return published_by(last)


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
async def test_run_is_what_was_published(one: Scenario, seen: Seen) -> None:
    run = seen[one.name]["run"]
    expected, job = _expected(one), one.last["job"]
    found = compare(expected, run["history"])
    assert (found.missing, found.duplicate, found.unexpected) == ([], [], [])
    assert found.found == len(expected) == seen[one.name]["shown"]["values"]
    assert run["state"] == one.state
    assert run["tags"] == ["azure-openai", *one.tags]
    assert (run["job_type"], run["group"]) == ("fine-tune", job["model"])
    assert run["name"] == (one.display_name or one.job_id)
    assert one.job_id in run["notes"]
    assert "portal.azure.com" in run["notes"]


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
async def test_summary_and_config_are_the_jobs(one: Scenario, seen: Seen) -> None:
    run, job = seen[one.name]["run"], one.last["job"]
    summary, config = run["summary"], run["config"]
    for name, value in one.summary.items():
        assert summary.get(name) == value, name
    if one.state != "pending":
        assert summary["status"] == job["status"]
    for name, value in one.config.items():
        assert config.get(name) == value, name
    assert config["job_id"] == one.job_id
    assert config["training_file"] == "file-train"
    assert ("seed" in config) == (job.get("seed") is not None)
    newest: dict[str, tuple[int, set[float]]] = {}
    for (step, name), values in _expected(one).items():
        newest[name] = max(newest.get(name, (-1, set())), (step, values), key=lambda item: item[0])
    for name, (_, values) in newest.items():
        held = math.inf if summary[name] == "Infinity" else summary[name]
        assert held in values, name


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
async def test_output_is_what_the_job_said(one: Scenario, seen: Seen) -> None:
    lines = seen[one.name]["output"]
    events = {item["id"]: item for item in one.last.get("events", ())}.values()
    # Values are in the charts; the sentence that repeats them is not in the console.
    wanted = sorted(_line(item) for item in events if not _has_values(item))
    error = one.last["job"].get("error")
    if error:
        assert lines[-1].endswith(f"Job failed: {error['code']}: {error['message']}")
        lines = lines[:-1]
    assert sorted(_plain(line) for line in lines) == wanted
    times = [_plain(line)[0] for line in lines]
    if len(one.phases) == 1:
        assert times == sorted(times)


def _has_values(item: Json) -> bool:
    data = item.get("data") or {}
    return data.get("step") != "third" and any(
        name not in ("step", "total_steps") and value is not None and value == value
        for name, value in data.items()
    )


def _line(item: Json) -> tuple[str, str]:
    at = datetime.fromtimestamp(item["created_at"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return at, item["message"]


def _plain(line: str) -> tuple[str, str]:
    at, text = line.removeprefix("ERROR ").split(" ", 1)
    return at, text


@pytest.mark.parametrize("one", [one for one in TABLE if one.notes], ids=lambda one: one.name)
async def test_what_could_not_be_used_is_named(one: Scenario, seen: Seen) -> None:
    notes = seen[one.name]["shown"]["notes"]
    for part in one.notes:
        assert any(part in note for note in notes), notes


async def test_jobs_are_complete_without_error(seen: Seen) -> None:
    for one in TABLE:
        shown = seen[one.name]["shown"]
        is_over = one.last["job"]["status"] in TERMINAL
        assert shown["state"] in (ENDED if is_over else ("live",)), shown
        assert (shown["error"], shown["run"]) == ("", f"{PROJECT}/{one.job_id}")
