"""What must not leave: graders, headers and keys in job objects, texts and metadata.

Markers are planted wherever a job object can carry a secret; then everything that left the relay
is searched for them: runs, artifacts, alerts, notices, queue messages, and what tables keep.
"""

import json
from dataclasses import asdict, replace

import pytest

from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.model.messages import RelayMessage
from finetune_wandb.model.relay.job import reduce_job
from finetune_wandb.model.relay.redact import MASK, redacted, redacted_value
from finetune_wandb.relay.artifacts import ArtifactLog
from finetune_wandb.relay.passes.finder import job_messages
from finetune_wandb.relay.ports import RelayOptions
from tests.e2e.relay.stage import START, Stage, job, message, metric

MARK = "PLANTED"
SECRET = f"{MARK}0123456789abcdef"
GRADER = {
    "type": "multi",
    "graders": {
        "remote": {
            "type": "endpoint",
            "url": f"https://grader.example/api?code={SECRET}",
            "headers": {"X-Functions-Key": SECRET, "Authorization": f"Bearer {SECRET}"},
        },
        "code": {"type": "python", "source": f"KEY = '{SECRET}'\ndef grade(): ..."},
    },
}
PLANTED = {
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": GRADER,
            "response_format": {"schema": SECRET},
            "hyperparameters": {"reasoning_effort": "low", "grader_api_key": SECRET},
        },
    },
    "grader": GRADER,
    "api_key": SECRET,
    "headers": {"api-key": SECRET},
    "integrations": [{"type": "other", "other": {"api_key": SECRET}}],
    "metadata": {"api_key": SECRET, "team": "blue", "note": f"Bearer {SECRET}"},
    "error": {
        "code": "grader_failed",
        "message": f"POST https://grader.example/api?code={SECRET}&v=2 with api-key: {SECRET}",
        "inner_error": {"headers": {"Authorization": SECRET}},
    },
}


async def test_planted_secrets_are_nowhere_when_a_job_is_relayed(on_stage: Stage) -> None:
    on_stage.options = RelayOptions(alerts=frozenset({"failed"}), artifacts=True)
    over = job(status="failed", finished_at=int(START) + 90, **PLANTED)
    events = [
        metric(1, train_reward_mean=0.5, note=SECRET, headers={"x": SECRET}),
        message(f"Grader said X-Functions-Key: {SECRET} is wrong", 20, "error"),
        message(f"retrying https://u:{SECRET}@grader.example", 21),
        message(f'body: {{"password": "{SECRET}", "n": 1}}', 22),
        message(f"Authorization: Basic {SECRET}", 23),
    ]
    checkpoint = {
        "id": "c",
        "step_number": 1,
        "metrics": {"loss": 1, "api_key": SECRET},
        "grader": GRADER,
    }
    await on_stage.put(over, events=events, checkpoints=[checkpoint])
    on_stage.now = START + 100
    await on_stage.tick()
    sink = Artifacts(on_stage.transport, on_stage.url)
    artifacts = ArtifactLog(on_stage.ports, sink, with_content=True)
    await artifacts.log(on_stage.account, ["ftjob-1"], budget_s=60)
    run = on_stage.run("ftjob-1")
    assert run["alerts"]
    assert run["artifacts_logged"]
    assert len(run["output"]) == 5
    blobs = [blob.data or b"" for blob in on_stage.hub.blobs.by_token.values()]
    assert blobs
    listed = (await on_stage.ports.jobs.list_jobs(on_stage.account, None, 100)).items
    assert MARK in json.dumps(listed), "the job that was planted does not carry the secrets"
    queued = job_messages(
        on_stage.account,
        [reduce_job(one) for one in listed],
        RelayMessage,
        sent_at=0,
        trigger="timer",
    )
    cursor = on_stage.cursor("ftjob-1")
    left = {
        "run": run,
        "artifacts": [blob.decode("utf-8", "replace") for blob in blobs],
        "notices": [asdict(one) for one in on_stage.topic.notices],
        "messages": queued,
        "table": asdict(cursor),
    }
    for name, found in left.items():
        text = json.dumps(found, default=str)
        assert MARK not in text, (name, text[max(text.index(MARK) - 300, 0) :][:400])
    # What is no secret is still there.
    assert run["config"]["metadata"]["team"] == "blue"
    assert run["config"]["hyperparameters"]["reasoning_effort"] == "low"
    assert "https://grader.example/api?code=[redacted]&v=2" in run["summary"]["error_message"]
    assert any("X-Functions-Key: [redacted] is wrong" in line for line in run["output"])


async def test_native_fields_alone_pass_when_an_integration_has_more(on_stage: Stage) -> None:
    native = {"type": "wandb", "wandb": {"project": "p", "api_key": SECRET, "name": "mine"}}
    on_stage.options = replace(on_stage.options, skip_native=False)
    await on_stage.put(job(integrations=[native]), events=[metric(1)])
    await on_stage.tick()
    assert MARK not in json.dumps(on_stage.run("ftjob-1-relay", project="p"), default=str)


@pytest.mark.parametrize(
    "text",
    [
        "Step 7: training loss=0.5, training token accuracy=0.8",
        "Training tokens billed: 5000",
        "the token count=5, error code=invalid_file",
        "Completed results file: file-07d92352b07246f7a51592e10cba0835",
        "See https://learn.microsoft.com/azure?tabs=key-vault#secrets",
        "valid_token_accuracy=0.75, valid_token: 12",
    ],
)
def test_text_is_left_as_it_is_when_it_holds_no_secret(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "api-key: {}",
        "OPENAI_API_KEY={}",
        '{{"x-functions-key":"{}"}}',
        "Authorization: Bearer {}",
        "https://x.blob.core.windows.net/a?sv=1&sig={}&se=2",
        "https://user:{}@host/path",
        "access_token={}",
        "client_secret = '{}'",
        "myIdToken={}",
    ],
)
def test_secret_is_masked_when_a_text_holds_one(text: str) -> None:
    shown = redacted(text.format(SECRET))
    assert MARK not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "key", ["wandb_v1_" + "a" * 77, "sk-" + "b" * 40, "eyJhbGciOi.eyJzdWIiOiIxIn0.c2ln"]
)
def test_key_is_masked_when_it_stands_alone(key: str) -> None:
    assert key not in redacted(f"tried with {key} and failed")


def test_field_is_masked_when_its_name_says_what_it_is() -> None:
    assert redacted_value("my_api_key", "short") == MASK
    assert redacted_value("team", "blue") == "blue"
