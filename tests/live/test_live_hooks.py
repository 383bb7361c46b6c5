"""The deployment's own commands against a real deployment, in the azd environment of this folder."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.commands import preflight
from tests.live.conftest import Verdict
from tests.live.settings import may_write, need

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)


def test_preflight_reads_what_azure_offers(verdict: Verdict) -> None:
    need("LIVE_AZD")
    done = _run(sys.executable, "-m", "infra.commands.preflight")
    verdict(f"{done.stdout.count('remedy: ')} problems")
    assert "Traceback" not in done.stderr, done.stderr
    assert "cannot be checked" not in done.stdout, done.stdout


def test_hooks_know_what_was_deployed(verdict: Verdict) -> None:
    need("LIVE_AZD")
    values = json.loads(_run("azd", "env", "get-values", "--output", "json").stdout)
    arm, deployment = preflight.Arm(os.environ | values), preflight.Deployment(values)
    identity = deployment.identity(arm)
    # Hooks import each other by their bare names; preflight has put their folder on the path.
    given = importlib.import_module("given").Given(arm, deployment, *identity)
    assigned = {
        one.lower()
        for right in deployment.rights()
        for one in right["assignments"]
        if not deployment.is_within(one)
    }
    known = {thing.id.lower() for thing in given.outside()}
    verdict(f"{len(assigned & known)} of {len(assigned)} role assignments have their names")
    assert assigned <= known
    assert given.surplus() == []


def test_hooks_change_nothing_when_they_run_again(verdict: Verdict) -> None:
    need("LIVE_AZD")
    may_write()
    again = [_run("azd", "hooks", "run", name) for name in ("postprovision", "postdeploy")]
    verdict(", ".join(f"ended with {done.returncode}" for done in again))
    assert [done.returncode for done in again] == [0, 0], [done.stdout for done in again]
    assert "No longer wanted by the settings: nothing" in again[0].stdout
