"""The demo itself, as `make demo ONCE=1` runs it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from dev.tools import ports

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]


async def test_demo_ends_well_when_run_once(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    own = ("WANDB_", "SANDBOX_URL", "AZURE_", "KEY_VAULT_", "AzureWebJobs")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "dev.tools.demo", "--once", "--run-dir", str(tmp_path), "--report", str(report)),
        cwd=ROOT,
        env={**environ, **ports.free().environ()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 240)
    text = out.decode()
    assert process.returncode == 0, text
    verdict = json.loads(report.read_text())
    assert verdict["account"] == {"healthy": True}
    assert verdict["values"]["expected"] > 200
    assert (verdict["values"]["missing"], verdict["values"]["duplicate"]) == (0, 0)
    assert {run["state"] for run in verdict["runs"]} == {"finished"}
    assert "\x1b" not in text, "a pipe gets no colours"
