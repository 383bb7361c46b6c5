"""The postdeploy hook, run as azd runs it: what it waits for, what it connects, how it fails."""

import re
import subprocess

import pytest
import yaml

from tests.infra.azure import Azure
from tests.infra.bicep import INFRA, ROOT
from tests.infra.previews import FURTHER, GROUP, NAME, SUBSCRIPTION, VAULT
from tests.infra.test_matches_code import function_names

TOPIC = "providers/Microsoft.EventGrid/systemTopics"
ACCOUNTS = f"{GROUP}/{TOPIC}/t1"
FURTHER_ACCOUNTS = f"{FURTHER}/resourceGroups/rg-{NAME}/{TOPIC}/t2"
SECRETS = f"{VAULT.partition('/providers')[0]}/{TOPIC}/v"
APP = f"{GROUP}/providers/Microsoft.Web/sites/func-x"
STORAGE = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stx"


def _path(topic: str, kind: str) -> str:
    return f"{topic}/eventSubscriptions/{kind}-abc"


EXPECTED = [
    _path(ACCOUNTS, "accounts"),
    _path(FURTHER_ACCOUNTS, "accounts"),
    _path(SECRETS, "secrets"),
    _path(SECRETS, "policies"),
]


@pytest.fixture
def deployed(azure: Azure) -> Azure:
    """Return what postdeploy finds: topics, and an app with all its functions."""
    for topic, source in ((ACCOUNTS, SUBSCRIPTION), (FURTHER_ACCOUNTS, FURTHER), (SECRETS, VAULT)):
        azure.put(topic, location="global", properties={"source": source})
    azure.put(APP, location="swedencentral")
    for name in function_names():
        azure.put(f"{APP}/functions/{name}")
    azure.environ |= {
        "FUNCTION_APP_ID": APP,
        "STORAGE_ACCOUNT_ID": STORAGE,
        "DEAD_LETTER_CONTAINER": "dead-letters",
        "ACCOUNT_TOPIC_IDS": f"{ACCOUNTS} {FURTHER_ACCOUNTS}",
        "VAULT_TOPIC_IDS": SECRETS,
        "WANDB_SECRET_NAMES": "wandb-api-key team-b",
        "EVENT_SUBSCRIPTION_SUFFIX": "abc",
    }
    azure.forget_requests()
    return azure


def _plan(azure: Azure, *states: list[str]) -> None:
    assert azure.ask("PUT", "/_sandbox/event-subscriptions", {"states": states})[0] == 200


def _states(azure: Azure) -> list[str]:
    return [azure.ask("GET", path)[1]["properties"]["provisioningState"] for path in EXPECTED]


def _failed(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 1, done.stdout
    for text in (*said, "remedy: "):
        assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_subscriptions_are_made_and_kept_when_the_hook_runs_twice(deployed: Azure) -> None:
    done = deployed.run("postdeploy")
    assert done.returncode == 0, done.stderr
    assert deployed.written() == [("PUT", path) for path in EXPECTED]
    # What will change is shown before anything does.
    first = done.stdout.index("ready")
    assert all(f"{path}: missing" in done.stdout[:first] for path in EXPECTED)
    bodies = [deployed.ask("GET", path)[1]["properties"] for path in EXPECTED]
    for body in bodies:
        assert body["destination"]["endpointType"] == "AzureFunction"
        assert body["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}
        letters = body["deadLetterWithResourceIdentity"]
        assert letters["identity"] == {"type": "SystemAssigned"}
        assert letters["deadLetterDestination"]["properties"] == {
            "resourceId": STORAGE,
            "blobContainerName": "dead-letters",
        }
    functions = [body["destination"]["properties"]["resourceId"] for body in bodies]
    assert functions == [
        f"{APP}/functions/{name}"
        for name in ("account_event", "account_event", "vault_event", "vault_event")
    ]
    account, _, secrets, policies = (body["filter"] for body in bodies)
    assert account["advancedFilters"][0]["values"] == [
        "Microsoft.CognitiveServices/accounts/write",
        "Microsoft.CognitiveServices/accounts/delete",
        "Microsoft.Authorization/roleAssignments/delete",
    ]
    assert secrets["advancedFilters"] == [
        {"operatorType": "StringIn", "key": "subject", "values": ["wandb-api-key", "team-b"]}
    ]
    assert policies == {"includedEventTypes": ["Microsoft.KeyVault.VaultAccessPolicyChanged"]}

    assert deployed.run("postdeploy").returncode == 0
    assert deployed.written() == [("PUT", path) for path in EXPECTED] * 2
    assert [deployed.ask("GET", path)[1]["properties"]["filter"] for path in EXPECTED] == [
        body["filter"] for body in bodies
    ]


def test_subscription_is_made_anew_when_it_stays_failed(deployed: Azure) -> None:
    _plan(deployed, ["Failed"])
    deployed.put(EXPECTED[0])
    deployed.forget_requests()
    done = deployed.run("postdeploy")
    assert done.returncode == 0, done.stderr
    assert deployed.written()[0] == ("DELETE", EXPECTED[0])
    assert _states(deployed) == ["Succeeded"] * 4


def test_put_is_tried_again_when_it_fails_or_is_refused(deployed: Azure) -> None:
    _plan(deployed, ["Creating", "Failed"])
    refused = {"status": 400, "body": {"error": {"code": "Endpoint validation", "message": "no"}}}
    deployed.fault("PUT", EXPECTED[2], refused, times=1)
    done = deployed.run("postdeploy")
    assert done.returncode == 0, done.stderr
    assert "refused: Endpoint validation" in done.stdout
    assert _states(deployed) == ["Succeeded"] * 4
    paths = [path for _, path in deployed.written()]
    # Put, deleted because it had failed, put again; and put twice.
    assert paths == [EXPECTED[0]] * 3 + [EXPECTED[1]] + [EXPECTED[2]] * 2 + [EXPECTED[3]]


def test_hook_fails_with_its_remedy_when_a_subscription_never_succeeds(deployed: Azure) -> None:
    refused = {"status": 403, "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}}
    deployed.fault("PUT", EXPECTED[0], refused)
    done = deployed.run("postdeploy")
    _failed(done, "after 3 attempts", "AuthorizationFailed", "docs/troubleshooting.md")
    assert [path for _, path in deployed.written()] == [EXPECTED[0]] * 3


def test_nothing_is_written_when_a_function_is_missing_or_broken(deployed: Azure) -> None:
    deployed.ask("DELETE", f"{APP}/functions/vault_event")
    cause = "The 'drift_timer' function is in error: RELAY is not set"
    deployed.put(f"{APP}/functions/drift_timer", properties={"errors": [cause]})
    deployed.forget_requests()
    done = deployed.run("postdeploy")
    _failed(done, "not there: vault_event", f"drift_timer: {cause}", "Functions are missing")
    assert done.stdout.count("waiting for vault_event") == 59
    assert deployed.written() == []


def test_hook_goes_on_when_the_host_does_not_show_its_errors(deployed: Azure) -> None:
    deployed.fault("GET", "/hostruntime/", {"status": 401, "body": {}})
    done = deployed.run("postdeploy")
    assert done.returncode == 0, done.stderr
    assert _states(deployed) == ["Succeeded"] * 4


def test_functions_are_waited_for_when_the_app_still_starts(deployed: Azure) -> None:
    deployed.fault("GET", f"{APP}/functions", {"status": 404, "body": {}}, times=2)
    done = deployed.run("postdeploy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waiting for account_event") == 2


def test_cause_is_shown_at_once_when_nobody_is_signed_in(deployed: Azure) -> None:
    deployed.sign_in(False)
    done = deployed.run("postdeploy")
    _failed(done, "not signed in", "azd auth login")
    assert deployed.written() == []
    assert "waiting" not in done.stdout


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, "InvalidAuthenticationTokenTenant", "azd auth login --tenant-id"),
        (403, "AuthorizationFailed", "docs/security.md"),
    ],
    ids=["tenant", "right"],
)
def test_cause_is_shown_at_once_when_azure_refuses(
    deployed: Azure, status: int, code: str, remedy: str
) -> None:
    refused = {"status": status, "body": {"error": {"code": code, "message": "no"}}}
    deployed.fault("GET", f"{APP}/functions", refused)
    done = deployed.run("postdeploy")
    _failed(done, code, remedy)
    assert "waiting" not in done.stdout


def test_hook_says_what_is_missing_when_nothing_was_provisioned(azure: Azure) -> None:
    _failed(azure.run("postdeploy"), "FUNCTION_APP_ID is not set", "azd provision")


def test_functions_compared_are_those_of_the_code() -> None:
    text = (INFRA / "hooks" / "events.py").read_text()
    listed = text.partition("FUNCTIONS: Final = (")[2].partition(")")[0]
    assert {line.strip(' ",') for line in listed.strip().splitlines()} == function_names()


def test_hooks_are_those_that_azd_runs() -> None:
    content = yaml.safe_load((ROOT / "azure.yaml").read_text())
    assert set(content["hooks"]) == {"preprovision", "postprovision", "postdeploy", "predown"}
    for name, hook in content["hooks"].items():
        assert hook["run"] == f"infra/hooks/{name}.py"
        assert (ROOT / hook["run"]).is_file()
    # Before it, azd down deleted groups of others, and took another project's for its own.
    assert content["requiredVersions"] == {"azd": ">= 1.31.2"}


def test_hooks_install_the_version_that_the_app_uses() -> None:
    lines = (INFRA / "hooks" / "requirements.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in pinned)
    (identity,) = (line for line in pinned if line.startswith("azure-identity"))
    assert identity in (ROOT / "requirements.txt").read_text().splitlines()
