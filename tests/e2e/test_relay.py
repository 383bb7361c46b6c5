"""A job's life in W&B, from pending to succeeded, whatever way Azure lists what it publishes."""

import base64
import random
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.driver import (
    ENDED,
    Driver,
    job_object,
    message_event,
    metric_events,
    published_by,
)

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def account(driver: Driver) -> str:
    return await driver.onboard()


def ended(job_id: str, status: str = "succeeded", **more: Any) -> dict[str, Any]:
    job = job_object(job_id, status)
    return {**job, "finished_at": job["created_at"] + 50, "trained_tokens": 1234, **more}


async def test_run_follows_the_job_when_it_goes_from_pending_to_succeeded(
    driver: Driver, account: str
) -> None:
    job_id = driver.new_name("ftjob-life")
    await driver.put_job(account, job_id, job=job_object(job_id, "pending"), events=[])
    await driver.job_in(job_id, ["live"])
    run = await driver.run_of(job_id)
    assert (run["state"], run["history"]) == ("pending", [])

    events = metric_events(job_id, 7)
    await driver.put_job(account, job_id, job=job_object(job_id, "running"), events=events)
    expected = published_by({"events": events})
    shown = await driver.job_with(job_id, len(expected))
    assert (shown["last_step"], shown["error"]) == (7, "")
    assert (await driver.compared(job_id, expected)).exact
    run = await driver.run_of(job_id)
    assert run["state"] == "running"
    assert [row["step"] for row in run["history"]] == list(range(1, 8))
    config = run["config"]
    assert config["model"] == "gpt-4.1-mini-2025-04-14"
    assert config["hyperparameters"] == {"batch_size": 4, "n_epochs": 2}
    assert (config["method"], config["seed"]) == ("supervised", 7)
    assert (config["training_file"], config["validation_file"]) == (
        "file-training",
        "file-validation",
    )
    assert (config["account"], config["region"]) == (account, "swedencentral")
    assert (run["group"], run["job_type"]) == ("gpt-4.1-mini-2025-04-14", "fine-tune")

    body = {
        "job": ended(job_id, fine_tuned_model="gpt-4.1-mini-2025-04-14.ft-life"),
        "events": [*metric_events(job_id, 20), message_event(job_id, 0, "Job succeeded.")],
        "checkpoints": [checkpoint(job_id, 20)],
        "result_csv": result_csv(20),
    }
    await driver.put_job(account, job_id, **body)
    await driver.job_in(job_id, ENDED)
    run = await driver.run_of(job_id)
    assert (run["state"], run["exitcode"]) == ("finished", 0)
    summary = run["summary"]
    assert (summary["status"], summary["trained_tokens"]) == ("succeeded", 1234)
    assert summary["fine_tuned_model"] == "gpt-4.1-mini-2025-04-14.ft-life"
    assert summary["total_seconds"] == 50
    assert [line for line in run["output"] if line.endswith("Job succeeded.")]
    found = await driver.compared(job_id, published_by(body))
    assert found.exact, found
    # What only checkpoint or result file say is there too.
    assert {"full_valid_loss", "train_loss"} <= {name for row in run["history"] for name in row}


def checkpoint(job_id: str, step: int) -> dict[str, Any]:
    return {
        "id": f"ftchkpt-{job_id}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": 1_790_000_000,
        "fine_tuning_job_id": job_id,
        "fine_tuned_model_checkpoint": "m",
        "metrics": {"step": float(step), "full_valid_loss": 0.75},
        "step_number": step,
    }


def result_csv(last: int, extra: int = 3) -> str:
    """Return a result file with the losses of the events, and some steps that they lack."""
    losses = {
        event["data"]["step"]: event["data"]["train_loss"] for event in metric_events("any", last)
    }
    rows = [f"{step},{losses.get(step, 0.125)},,-1" for step in range(1, last + extra + 1)]
    return "\n".join(["step,train_loss,train_accuracy,valid_loss", *rows]) + "\n"


def newest_first(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return events[::-1]


def doubled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say everything twice, once under another id."""
    again = [{**event, "id": f"{event['id']}-again"} for event in events]
    return [event for pair in zip(events[::-1], again[::-1], strict=True) for event in pair]


def shuffled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return random.Random(5).sample(events, len(events))


def oldest_first(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return events


@pytest.mark.parametrize("order", [newest_first, oldest_first, doubled, shuffled])
@pytest.mark.parametrize("page_size", [None, 2], ids=["whole pages", "pages of two"])
async def test_run_holds_each_value_once_when_events_are_listed_in_any_way(
    driver: Driver, account: str, order: Any, page_size: int | None
) -> None:
    job_id = driver.new_name("ftjob-order")
    listing = {"order": "given", "page_size": page_size}
    first = order(metric_events(job_id, 6))
    await driver.put_job(
        account, job_id, job=job_object(job_id, "running"), events=first, **listing
    )
    await driver.job_with(job_id, 1)
    body = {"events": order(metric_events(job_id, 12)), "result_csv": result_csv(12)}
    await driver.put_job(account, job_id, job=ended(job_id), **body, **listing)
    await driver.job_in(job_id, ENDED)
    found = await driver.compared(job_id, published_by(body))
    assert found.counts() == {
        "expected": 12 * 2 + 2 + 3,
        "found": 12 * 2 + 2 + 3,
        "missing": 0,
        "duplicate": 0,
        "unexpected": 0,
    }


async def test_values_are_added_when_they_come_after_the_end(driver: Driver, account: str) -> None:
    job_id = driver.new_name("ftjob-late")
    await driver.put_job(account, job_id, job=ended(job_id), events=metric_events(job_id, 5))
    await driver.job_in(job_id, ENDED)
    body = {"events": metric_events(job_id, 9)}
    await driver.put_job(account, job_id, **body)
    assert (await driver.compared(job_id, published_by(body), seconds=20)).exact
    assert (await driver.run_of(job_id))["state"] == "finished"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("<html><body>Service unavailable</body></html>", "plain"),
        ("", "plain"),
        ("epoch,train_loss\n1,0.5\n", "plain"),
        ("step,train_loss\n", "base64"),
    ],
    ids=["a web page", "empty", "no step column", "base64 of a header alone"],
)
async def test_run_ends_with_what_the_events_gave_when_the_result_file_is_no_table(
    driver: Driver, account: str, text: str, encoding: str
) -> None:
    job_id = driver.new_name("ftjob-odd-file")
    body = {"events": metric_events(job_id, 5)}
    await driver.put_job(
        account, job_id, job=ended(job_id), **body, result_csv=text, result_encoding=encoding
    )
    shown = await driver.job_in(job_id, ENDED)
    assert shown["error"] == ""
    assert (await driver.compared(job_id, published_by(body))).exact
    assert (await driver.run_of(job_id))["state"] == "finished"
    has_rows = encoding == "base64"
    assert has_rows or any("result file" in note for note in shown["notes"]), shown


async def test_result_file_is_read_when_it_is_base64(driver: Driver, account: str) -> None:
    job_id = driver.new_name("ftjob-base64")
    text = result_csv(8)
    await driver.put_job(
        account, job_id, job=ended(job_id), events=[], result_csv=text, result_encoding="base64"
    )
    await driver.job_in(job_id, ENDED)
    expected = published_by({"result_csv": base64.b64encode(text.encode()).decode()})
    assert len(expected) == 11
    assert (await driver.compared(job_id, expected)).exact


ODD_JOBS: dict[str, dict[str, Any]] = {
    "nulls": dict.fromkeys(
        ("method", "hyperparameters", "integrations", "result_files", "error", "model")
    ),
    "-1 hyperparameters": {
        "method": None,
        "hyperparameters": {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": -1},
    },
    "numbers as text": {"created_at": "1790000000", "seed": "7", "trained_tokens": "12"},
    "wrong types": {"method": "supervised", "result_files": "file-1", "metadata": [], "seed": {}},
    "an unknown status": {"status": "reticulating"},
    "an unknown error": {"error": {"code": None, "message": None, "inner_error": {}}},
}


@pytest.mark.parametrize("odd", ODD_JOBS.values(), ids=ODD_JOBS)
async def test_values_are_relayed_when_the_job_object_is_odd(
    driver: Driver, account: str, odd: dict[str, Any]
) -> None:
    job_id = driver.new_name("ftjob-odd")
    body = {"events": metric_events(job_id, 6)}
    expected = published_by(body)
    await driver.put_job(account, job_id, job={**job_object(job_id, "running"), **odd}, **body)
    shown = await driver.job_in(job_id, ["live"])
    assert shown["error"] == ""
    assert (await driver.compared(job_id, expected)).exact
    assert (await driver.run_of(job_id))["state"] == "running"


async def test_values_are_relayed_when_the_job_object_has_next_to_nothing(
    driver: Driver, account: str
) -> None:
    job_id = driver.new_name("ftjob-bare")
    body = {"events": metric_events(job_id, 6)}
    await driver.put_job(account, job_id, job={"id": job_id}, **body)
    await driver.job_with(job_id, len(published_by(body)))
    assert (await driver.compared(job_id, published_by(body))).exact


async def test_values_come_by_themselves_when_the_role_spreads_late(driver: Driver) -> None:
    """Azure answers 401 `PermissionDenied` until a fresh role counts: "not yet", not a refusal."""
    await driver.control("PUT", "settings", {"openai_role_s": 3})
    try:
        account = await driver.onboard()
        job_id = driver.new_name("ftjob-role")
        events = metric_events(job_id, 3)
        await driver.put_job(account, job_id, job=job_object(job_id, "running"), events=events)
        expected = published_by({"events": events})
        await driver.job_with(job_id, len(expected))
        assert (await driver.compared(job_id, expected)).exact
    finally:
        await driver.control("PUT", "settings", {"openai_role_s": 0})
