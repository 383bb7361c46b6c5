"""The postdeploy hooks: what they ask of Azure, in which order, and what they mend.

The posix hook runs against a fake `az`; of the Windows hook the syntax is checked, and that it
asks for the same things (there is no PowerShell here to run it).
"""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell

from tests.infra.bicep import INFRA, ROOT, problems

HOOKS = INFRA / "hooks"
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-00000000000"
TOPICS = [
    f"{SUBSCRIPTION}{n}/resourceGroups/rg/providers/Microsoft.EventGrid/systemTopics/t{n}"
    for n in (1, 2)
]
VAULT_TOPIC = f"{SUBSCRIPTION}1/resourceGroups/rg.v/providers/Microsoft.EventGrid/systemTopics/v"
APP = f"{SUBSCRIPTION}1/resourceGroups/rg/providers/Microsoft.Web/sites/func-x"
STORAGE = f"{SUBSCRIPTION}1/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/stx"
EXPECTED = [
    (TOPICS[0], "accounts"),
    (TOPICS[1], "accounts"),
    (VAULT_TOPIC, "secrets"),
    (VAULT_TOPIC, "policies"),
]


class Azure:
    """The fake's world and the hook's surroundings."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "world.json"
        az = folder / "bin" / "az"
        az.parent.mkdir()
        az.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/infra/fake_az.py "$@"\n')
        az.chmod(az.stat().st_mode | stat.S_IEXEC)
        self.environ = {
            "PATH": f"{az.parent}:/usr/bin:/bin",
            "TMPDIR": str(folder),
            "FAKE_AZ_WORLD": str(self.file),
            "POLL_SECONDS": "0",
            "POLL_TIMES": "4",
            "FUNCTION_APP_ID": APP,
            "STORAGE_ACCOUNT_ID": STORAGE,
            "DEAD_LETTER_CONTAINER": "dead-letters",
            "ACCOUNT_TOPIC_IDS": " ".join(TOPICS),
            "VAULT_TOPIC_IDS": VAULT_TOPIC,
            "WANDB_SECRET_NAMES": "wandb-api-key team-b",
            "EVENT_SUBSCRIPTION_SUFFIX": "abc",
        }
        self.write()

    def write(self, **changes: Any) -> None:
        world = {
            "functions": ["account_event", "vault_event"],
            "subscriptions": {},
            "puts": {},
            "calls": [],
        }
        self.file.write_text(json.dumps(world | changes))

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(HOOKS / "postdeploy.sh")],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def world(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text()))

    def calls(self, *methods: str) -> list[dict[str, Any]]:
        return [call for call in self.world["calls"] if call["method"] in methods]


def _path(topic: str, name: str) -> str:
    return f"{topic}/eventSubscriptions/{name}-abc"


@pytest.fixture
def azure(tmp_path: Path) -> Azure:
    return Azure(tmp_path)


def test_subscriptions_are_made_one_after_another_when_none_exist(azure: Azure) -> None:
    done = azure.run()
    assert done.returncode == 0, done.stderr
    assert [call["path"] for call in azure.calls("put")] == [_path(*item) for item in EXPECTED]
    # After each put it is waited for before the next begins: two at once conflict.
    puts_and_gets = [(c["method"], c["path"]) for c in azure.calls("put", "get")]
    for topic, name in EXPECTED:
        place = puts_and_gets.index(("put", _path(topic, name)))
        assert puts_and_gets[place + 1 : place + 3] == [("get", _path(topic, name))] * 2
    assert {call["query"] for call in azure.calls("put")} == {"api-version=2025-02-15"}


def test_states_are_understood_when_az_warns_of_something_else(azure: Azure) -> None:
    azure.write(warning="You have 2 updates available. Consider updating your CLI installation.")
    done = azure.run()
    assert done.returncode == 0, done.stderr
    assert [call["path"] for call in azure.calls("put")] == [_path(*item) for item in EXPECTED]


def test_bodies_are_complete_when_sent(azure: Azure) -> None:
    azure.run()
    bodies = [call["body"]["properties"] for call in azure.calls("put")]
    assert "@" not in json.dumps(bodies)
    for body in bodies:
        assert body["destination"]["endpointType"] == "AzureFunction"
        assert body["destination"]["properties"]["resourceId"].startswith(f"{APP}/functions/")
        assert body["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        letters = body["deadLetterWithResourceIdentity"]
        assert letters["identity"] == {"type": "SystemAssigned"}
        assert letters["deadLetterDestination"] == {
            "endpointType": "StorageBlob",
            "properties": {"resourceId": STORAGE, "blobContainerName": "dead-letters"},
        }
    account, _, secrets, policies = bodies
    assert account["filter"]["advancedFilters"] == [
        {
            "operatorType": "StringIn",
            "key": "data.operationName",
            "values": [
                "Microsoft.CognitiveServices/accounts/write",
                "Microsoft.CognitiveServices/accounts/delete",
                "Microsoft.Authorization/roleAssignments/delete",
            ],
        }
    ]
    assert secrets["filter"]["advancedFilters"] == [
        {"operatorType": "StringIn", "key": "subject", "values": ["wandb-api-key", "team-b"]}
    ]
    assert policies["filter"] == {
        "includedEventTypes": ["Microsoft.KeyVault.VaultAccessPolicyChanged"]
    }


def test_same_is_asked_again_when_run_twice(azure: Azure) -> None:
    azure.run()
    first = azure.calls("put")
    azure.write(subscriptions=azure.world["subscriptions"])
    done = azure.run()
    assert done.returncode == 0
    assert azure.calls("put") == first
    assert azure.calls("delete") == []


def test_subscription_is_made_anew_when_it_stays_failed(azure: Azure) -> None:
    broken = _path(TOPICS[0], "accounts")
    azure.write(subscriptions={broken: ["Failed"]})
    done = azure.run()
    assert done.returncode == 0, done.stderr
    assert [call["path"] for call in azure.calls("delete")] == [broken]
    assert azure.world["subscriptions"][broken] == ["Succeeded"]


def test_put_is_tried_again_when_it_fails_once(azure: Azure) -> None:
    shaky = _path(VAULT_TOPIC, "secrets")
    azure.write(puts={shaky: [["Creating", "Failed"], ["Succeeded"]]})
    done = azure.run()
    assert done.returncode == 0, done.stderr
    assert [call["path"] for call in azure.calls("delete")] == [shaky]
    assert len([call for call in azure.calls("put") if call["path"] == shaky]) == 2


def test_hook_fails_with_its_remedy_when_a_subscription_never_succeeds(azure: Azure) -> None:
    azure.write(puts={_path(TOPICS[0], "accounts"): [["Failed"]]})
    done = azure.run()
    assert done.returncode == 1
    assert "after 3 attempts" in done.stderr
    assert "docs/troubleshooting.md" in done.stderr
    assert len(azure.calls("put")) == 3


def test_operation_under_way_is_waited_for_when_one_is_found(azure: Azure) -> None:
    path = _path(TOPICS[0], "accounts")
    azure.write(subscriptions={path: ["Updating", "Succeeded"]})
    done = azure.run()
    assert done.returncode == 0
    first = [call["method"] for call in azure.world["calls"] if call["path"] == path]
    assert first[:3] == ["get", "get", "put"]


def test_function_is_waited_for_when_it_is_not_indexed_yet(azure: Azure) -> None:
    azure.write(functions=["vault_event"], appears_after=2)
    done = azure.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waiting for function account_event") == 2


def test_nothing_is_written_when_a_function_never_appears(azure: Azure) -> None:
    azure.write(functions=["account_event"])
    done = azure.run()
    assert done.returncode == 1
    assert "vault_event is not there" in done.stderr
    assert azure.calls("put") == []


def test_refusal_is_shown_and_ends_the_hook_when_rights_are_missing(azure: Azure) -> None:
    azure.write(deny="put")
    done = azure.run()
    assert done.returncode != 0
    assert "AuthorizationFailed" in done.stderr
    assert len(azure.calls("put")) == 1


@pytest.mark.parametrize(
    "variable", ["FUNCTION_APP_ID", "STORAGE_ACCOUNT_ID", "ACCOUNT_TOPIC_IDS", "WANDB_SECRET_NAMES"]
)
def test_hook_says_what_is_missing_when_nothing_was_provisioned(
    azure: Azure, variable: str
) -> None:
    del azure.environ[variable]
    done = azure.run()
    assert done.returncode != 0
    assert variable in done.stderr
    assert azure.world["calls"] == []


def test_no_file_is_left_behind(azure: Azure, tmp_path: Path) -> None:
    azure.run()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["bin", "world.json"]


def test_posix_hook_is_clean_when_shellcheck_reads_it() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [str(shellcheck), "--severity=style", *map(str, HOOKS.glob("*.sh"))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert os.access(HOOKS / "postdeploy.sh", os.X_OK)


def test_windows_hook_parses() -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    assert problems(parser.parse((HOOKS / "postdeploy.ps1").read_bytes()).root_node) == []


def test_windows_hook_asks_for_the_same_things() -> None:
    posix = (HOOKS / "postdeploy.sh").read_text()
    windows = (HOOKS / "postdeploy.ps1").read_text()
    for pattern in (
        r"20\d\d-\d\d-\d\d",  # API versions
        r"@[A-Z_]+@",  # placeholders filled in
        r"\b(?:Creating|Updating|Deleting|AwaitingManualAction|Failed|Canceled|Succeeded|Missing)\b",
    ):
        assert set(re.findall(pattern, posix)) == set(re.findall(pattern, windows)), pattern
    order = re.findall(r'^ *put "\$topic" (\w+)$', posix, re.M)
    assert order == ["accounts", "secrets", "policies"]
    assert re.findall(r"^ *Set-EventSubscription \$topic '(\w+)'$", windows, re.M) == order


def test_hooks_are_those_that_azd_runs() -> None:
    listed = re.findall(r"run: \./(\S+)", (ROOT / "azure.yaml").read_text())
    assert sorted(listed) == ["infra/hooks/postdeploy.ps1", "infra/hooks/postdeploy.sh"]
    assert all((ROOT / name).is_file() for name in listed)
