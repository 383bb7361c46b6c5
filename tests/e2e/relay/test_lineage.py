"""Artifacts through the local host: every finished job of a message, and one that cannot be."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dev.tools.demo.cloud import until
from dev.tools.demo.values import compare
from tests.e2e.driver import (
    KEY,
    PROJECT,
    Driver,
    job_object,
    metric_events,
    published_by,
    running,
)
from tests.e2e.relay import reader

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]
JOBS = 14
"""As many as a message holds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("run"), host_env={"ARTIFACTS": "on"}) as started:
        yield started


async def test_every_job_has_its_lineage_when_they_end_together(driver: Driver) -> None:
    account = await driver.onboard()
    statuses = ["succeeded", "failed", "cancelled"]
    bodies = {}
    for number in range(JOBS):
        job_id, status = f"ftjob-lineage-{number}", statuses[number % 3]
        over = job_object(job_id, status, training_file="file-shared", validation_file=None)
        # Over for hours: everything is read at the first look.
        over |= {
            "created_at": over["created_at"] - 20_000,
            "finished_at": over["created_at"] - 9000,
        }
        over["fine_tuned_model"] = "ft:one" if status == "succeeded" else None
        bodies[job_id] = {
            "job": over,
            "events": metric_events(job_id, 6),
            "result_csv": "step,train_loss\n7,0.5\n",
            "files": {"file-shared": {"filename": "shared.jsonl", "content": "{}\n{}\n"}},
        }
    await asyncio.gather(
        *(driver.put_job(account, job_id, **body) for job_id, body in bodies.items())
    )

    waiting: list[str] = []

    async def look() -> bool | None:
        waiting.clear()
        for job_id in bodies:
            run = await driver.run(f"{PROJECT}/{job_id}")
            logged = len(run["artifacts_logged"]) if run else -1
            wanted = 2 if bodies[job_id]["job"]["status"] == "succeeded" else 1
            if logged < wanted or not run or "training_file_facts" not in run["config"]:
                waiting.append(job_id)
        return None if waiting else True

    await until(look, lambda: f"no lineage yet: {waiting}", seconds=150, every=1)
    paths = {job_id: f"{PROJECT}/{job_id}" for job_id in bodies}
    runs = await reader.read(driver.stack.wandb_url, KEY, list(paths.values()))
    for job_id, body in bodies.items():
        run, status = runs[paths[job_id]], body["job"]["status"]
        assert run["state"] == ("finished" if status == "succeeded" else "failed"), job_id
        assert compare(published_by(body), run["history"]).exact, job_id
        assert {one["type"] for one in run["logged"]} == (
            {"result", "model"} if status == "succeeded" else {"result"}
        )
        (used,) = run["used"]
        # One data set behind all of them: the same version, not one for each job.
        assert used["name"] == "dataset-file-shared:v0"
        assert used["metadata"]["rows"] == 2
    status = await driver.status()
    assert not [item for item in status["problems"] if item["source"] == "job_artifacts"]
