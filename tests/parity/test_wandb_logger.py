"""Our run of a supervised job against the one of wandb's own `WandbLogger.sync`, field by field.

Both read the same job of the same sandbox and write to the same W&B. Every field that differs
must stand in docs/run-contents.md with its reason, and no other.
"""

import asyncio
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_wandb.clients.wandb.artifacts import Artifacts
from finetune_wandb.relay.artifacts import ArtifactLog
from tests.e2e.relay.stage import KEY, START, Stage, job, stage

DOC = Path(__file__).parents[2] / "docs" / "run-contents.md"
HEADING = "## Compared with `WandbLogger.sync`"
JOB = "ftjob-parity"
ROWS = [
    {
        "messages": [
            {"role": role, "content": f"{role} {n}"} for role in ("system", "user", "assistant")
        ]
    }
    for n in range(3)
]
CONTENT = "".join(json.dumps(row) + "\n" for row in ROWS)
SYNC = """
import sys
from openai import OpenAI
from wandb.integration.openai.fine_tuning import WandbLogger
client = OpenAI(base_url=sys.argv[1], api_key="sandbox", max_retries=0)
WandbLogger.sync(fine_tune_job_id=sys.argv[2], openai_client=client, project="peer",
                 entity="sandbox-team")
"""

pytestmark = pytest.mark.sandbox_only


def csv_of(last: int) -> str:
    lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
    for step in range(1, last + 1):
        loss = 2 * math.exp(-step / 9)
        valid = f"{loss + 0.25},{0.5 - loss / 9}" if step % 5 == 0 else ","
        lines.append(f"{step},{loss},{1 - loss / 3},{valid}")
    return "\n".join(lines) + "\n"


async def publish(on: Stage) -> None:
    over = job(
        JOB,
        "succeeded",
        finished_at=int(START) + 90,
        fine_tuned_model="gpt-4.1-mini-2025-04-14.ft-1",
        trained_tokens=4242,
        hyperparameters={"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 1.0},
        validation_file="file-validation",
        organization_id="org-1",
        error={"code": None, "message": None, "param": None},
    )
    files = {
        name: {"filename": f"{name}.jsonl", "content": CONTENT}
        for name in ("file-training", "file-validation")
    }
    event = {
        "id": "ftevent-1",
        "object": "fine_tuning.job.event",
        "created_at": int(START) + 10,
        "level": "info",
        "message": "Training started.",
        "type": "message",
    }
    await on.put(over, events=[event], result_csv=csv_of(20), files=files)


async def theirs(on: Stage, folder: Path) -> Any:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SYNC, f"{on.url}/_host/{on.account.name}.openai.azure.com/openai/v1", JOB),
        cwd=folder,
        env=own
        | {
            "WANDB_BASE_URL": on.url,
            "WANDB_API_KEY": KEY,
            "WANDB_SILENT": "true",
            "WANDB_ERROR_REPORTING": "false",
            "HOME": str(folder),
            **{place: str(folder) for place in places},
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()[-3000:]
    return on.run(JOB, project="peer")


async def ours(on: Stage) -> Any:
    on.now = START + 100
    for _ in range(8):
        await on.tick(60)
    artifacts = ArtifactLog(on.ports, Artifacts(on.transport, on.url), with_content=False)
    (outcome,) = await artifacts.log(on.account, [JOB], budget_s=60)
    assert outcome.error == ""
    return on.run(JOB)


def fields(run: Any) -> dict[str, Any]:
    """Return a run as named fields; what no person sets or reads (`_…`, counts) is left out."""
    found = {name: run[name] for name in ("state", "display_name", "group", "job_type", "notes")}
    found["tags"] = run["tags"]
    found["output"] = [line.split(" ", 1)[1] for line in run["output"]]
    found["files"] = [name for name in run["files"] if not name.startswith("media/")]
    for part in ("config", "summary"):
        found |= {
            f"{part}.{name}": value for name, value in run[part].items() if not name.startswith("_")
        }
    for row in run["history"]:
        for name, value in row.items():
            if name == "_step" or not name.startswith("_"):
                found.setdefault(f"history.{name}", []).append(value)
    for kind in ("used", "logged"):
        for one in run[f"artifacts_{kind}"]:
            found.setdefault(f"artifact.{one['type']} ({kind})", []).append(one["files"])
    return found


def differing(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    absent = object()  # a field that is null there is still a field
    return {
        name
        for name in first.keys() | second.keys()
        if first.get(name, absent) != second.get(name, absent)
    }


def documented() -> dict[str, str]:
    """Return the documented differences: field to reason."""
    text = DOC.read_text()
    assert HEADING in text, f"{DOC.name} has no section {HEADING}"
    section = text.split(HEADING, 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|([^|]*)\|([^|]*)\|$", section, re.MULTILINE)
    return {name: reason.strip() for name, _, _, reason in rows}


async def test_every_difference_is_documented_and_no_other(tmp_path: Path) -> None:
    async with stage() as on:
        await publish(on)
        peer, own = fields(await theirs(on, tmp_path)), fields(await ours(on))
    known, found = documented(), differing(peer, own)
    shown = {name: (peer.get(name), own.get(name)) for name in found ^ known.keys()}
    assert found == known.keys(), shown
    assert all(known.values()), "a difference stands without its reason"
    # The values themselves are the same, under the one name of each metric.
    for name, theirs_name in (
        ("train_loss", "train_loss"),
        ("train_mean_token_accuracy", "train_accuracy"),
        ("valid_loss", "valid_loss"),
        ("valid_mean_token_accuracy", "valid_mean_token_accuracy"),
    ):
        assert own[f"history.{name}"] == peer[f"history.{theirs_name}"]
        assert own[f"summary.{name}"] == peer[f"summary.{theirs_name}"]
    assert own["history.step"] == list(range(1, 21))
    _is_documented(own)


def _is_documented(own: dict[str, Any]) -> None:
    """Assert that the sections before the comparison name everything that our run has."""
    text = DOC.read_text().split(HEADING, 1)[0]
    for field in own:
        part, _, name = field.partition(".")
        if part == "artifact":
            assert f"| `{name.split()[0]}`," in text, field
        elif part in ("config", "summary") and f"history.{name}" not in own:
            general = re.sub(r"^(best|last)/.*?(_step)?$", r"\1/NAME\2", name)
            assert f"`{general}`" in text, field
