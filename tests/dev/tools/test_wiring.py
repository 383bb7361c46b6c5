"""What a stack sets for its host, and what it leaves to people."""

import re
from pathlib import Path

import pytest

from dev.tools import ports, wiring
from dev.tools.ports import Ports
from dev.tools.processes import StackError

ROOT = Path(__file__).resolve().parents[3]
PORTS = Ports(sandbox=1, wandb=2, host=3, azurite=4)
SAMPLE = '{"Values": {"WANDB_BASE_URL": "http://127.0.0.1:7701"}}'
OWN = '{"Values": {"WANDB_BASE_URL": "https://wandb.example.org"}}'


def test_wandb_is_the_sandboxs_when_nobody_says_otherwise(tmp_path: Path) -> None:
    assert wiring.joined(PORTS, {}, tmp_path) == {
        "SANDBOX_URL": "http://127.0.0.1:1",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "WANDB_BASE_URL": "http://127.0.0.1:2",
        "WANDB_APP_URL": "http://127.0.0.1:2",
        "HOST_LEASE_S": "20",
    }


def test_lease_is_the_users_when_set(tmp_path: Path) -> None:
    assert wiring.joined(PORTS, {"HOST_LEASE_S": "600"}, tmp_path)["HOST_LEASE_S"] == "600"


def test_stack_has_the_queues_of_the_templates_when_it_starts() -> None:
    template = (ROOT / "infra" / "modules" / "storage.bicep").read_text()
    names = re.search(r"var queueNames = \[(.*?)\]", template, re.DOTALL)
    assert names is not None
    assert tuple(names[1].replace("'", "").split()) == wiring.QUEUES


@pytest.mark.parametrize(
    ("environ", "own_file", "expected"),
    [
        pytest.param({"WANDB_BASE_URL": "https://w"}, None, "https://w", id="environment"),
        pytest.param({}, OWN, "https://wandb.example.org", id="settings file"),
        pytest.param({"WANDB_BASE_URL": "https://w"}, OWN, "https://w", id="both"),
        pytest.param({}, SAMPLE, "http://127.0.0.1:2", id="copy of the sample"),
        pytest.param({"WANDB_BASE_URL": ""}, None, "http://127.0.0.1:2", id="empty"),
    ],
)
def test_wandb_is_the_users_when_set(
    tmp_path: Path, environ: dict[str, str], own_file: str | None, expected: str
) -> None:
    (tmp_path / "local.settings.sample.json").write_text(SAMPLE)
    if own_file:
        (tmp_path / "local.settings.json").write_text(own_file)
    joined = wiring.joined(PORTS, environ, tmp_path)
    assert joined["WANDB_BASE_URL"] == expected
    # The app page belongs to the same W&B, or is left to the user's settings.
    own = "http://127.0.0.1:2" if expected.endswith(":2") else ""
    assert joined["WANDB_APP_URL"] == own


def test_azure_is_real_when_sandbox_url_is_emptied(tmp_path: Path) -> None:
    assert wiring.joined(PORTS, {"SANDBOX_URL": ""}, tmp_path)["SANDBOX_URL"] == ""


@pytest.mark.parametrize("value", ["x", "-1", "70000", "65534"])
def test_variable_is_named_when_port_is_malformed(value: str) -> None:
    with pytest.raises(StackError, match="AZURITE_PORT"):
        ports.from_environ({"AZURITE_PORT": value})
