"""What people can write into their jobs and accounts: markup, keys, paths, foreign addresses."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.driver import ENDED, PROJECT, Driver, job_object, message_event, metric_events

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
LEAKS = {
    "a W&B key": "wandb_v1_" + "Leak" * 12,
    "an OpenAI key": "sk-" + "leak0" * 8,
    "a function key": "https://grader.example/api?code=LeakLeakLeakLeak==",
    "a signature": "https://st.blob.example/c?sv=1&sig=LeakLeakLeak%3D",
    "a bearer token": "Authorization: Bearer leak.leak.leakleakleakleak",
    "a password": "postgres://user:leak-leak-leak@db.example/x",
}


async def relayed(driver: Driver, job: dict[str, Any], **body: Any) -> tuple[str, dict[str, Any]]:
    """Relay a job to its end; return everything that anybody can see of it, and its run."""
    account = await driver.onboard()
    await driver.put_job(account, job["id"], job=job, **body)
    shown = await driver.job_in(job["id"], ENDED)
    run = await driver.run(shown["run"] or f"{PROJECT}/{job['id']}")
    assert run is not None
    _, page = await driver.app("GET", "/api/status")
    async with driver.http.get(f"{driver.host_url}/api/dashboard") as answer:
        html = await answer.text()
    return "\n".join((json.dumps(page), html, json.dumps(run), driver.host_log())), run


@pytest.mark.parametrize("leak", LEAKS)
async def test_credential_goes_no_further_when_a_job_carries_one(driver: Driver, leak: str) -> None:
    secret = LEAKS[leak]
    name = driver.new_name("ftjob-leak")
    job = job_object(
        name,
        "failed",
        error={"code": "grader_failed", "message": f"the grader said: {secret}"},
        metadata={"grader_api_key": secret, "note": secret},
        method={
            "type": "reinforcement",
            "reinforcement": {
                "hyperparameters": {"n_epochs": 1, "api_key": secret, "note": secret},
                "grader": {"type": "python", "source": f"KEY = '{secret}'", "headers": [secret]},
            },
        },
    )
    events = [*metric_events(name, 3), message_event(name, 0, f"calling {secret}", "error")]
    seen, run = await relayed(driver, job, events=events)
    for part in ("LeakLeakLeak", "leak0leak0", "leakleakleak", "leak-leak-leak"):
        assert part not in seen
    assert len(run["history"]) == 3


async def test_markup_is_shown_as_text_when_names_hold_it(driver: Driver) -> None:
    name = driver.new_name("ftjob-markup")
    job = job_object(name, "failed", model=MARKUP, suffix=MARKUP, error={"message": MARKUP})
    events = [*metric_events(name, 2), message_event(name, 0, MARKUP)]
    account = await driver.onboard()
    await driver.put_job(account, name, job=job, events=events)
    await driver.job_in(name, ENDED)
    async with driver.http.get(f"{driver.host_url}/api/dashboard") as answer:
        html = await answer.text()
        policy = answer.headers.get("Content-Security-Policy", "")
    assert name in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "script-src" in policy or "default-src" in policy


@pytest.mark.parametrize(
    "job_id",
    ["ftjob-..-..-files", "ftjob-a%2Fb", "ftjob-x;y", "ftjob-ünï", "ftjob-" + "l" * 200],
    ids=["dots", "an escape", "a separator", "letters", "long"],
)
async def test_run_is_inside_its_project_when_a_job_id_is_odd(driver: Driver, job_id: str) -> None:
    account = await driver.onboard()
    body = {"job": job_object(job_id, "succeeded"), "events": metric_events(job_id, 2)}
    await driver.put_job(account, quote(job_id, safe=""), **body)
    shown = await driver.job_in(job_id, ENDED)
    assert shown["run"].startswith(f"{PROJECT}/")
    run = await driver.run(quote(shown["run"]))
    assert run is not None
    assert len(run["history"]) == 2


@pytest.mark.parametrize(
    "project", ["../other", "a/b", "a?x=1", "a#b", "x" * 200], ids=lambda text: text[:8]
)
async def test_job_is_set_aside_when_its_project_would_lead_elsewhere(
    driver: Driver, project: str
) -> None:
    name = driver.new_name("ftjob-project")
    job = job_object(name, "running", metadata={"wandb_project": project})
    account = await driver.onboard()
    await driver.put_job(account, name, job=job, events=metric_events(name, 2))
    shown = await driver.job_in(name, ("parked",))
    assert "project" in shown["error"]
    assert shown["remedy"] is not None
