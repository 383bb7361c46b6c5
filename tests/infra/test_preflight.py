"""What is refused before anything is written, and what `preflight` foresees beside it."""

import json
import subprocess
import sys
from pathlib import Path

from tests.infra.azure import Azure
from tests.infra.bicep import ROOT
from tests.infra.previews import FURTHER, GROUP, LOCATION, NAME, SUBSCRIPTION, VAULT

TOPIC = f"{SUBSCRIPTION}/resourceGroups/rg-team/providers/Microsoft.EventGrid/systemTopics/theirs"


def _say(azure: Azure, path: str, body: object, status: int = 200, method: str = "GET") -> None:
    azure.fault(method, path, {"status": status, "body": body})


def _compiler(folder: Path) -> str:
    """Make a compiler that answers with a small template."""
    template = {"parameters": {"privateNetworking": {"type": "bool"}}}
    compiler = folder / "bicep"
    compiler.write_text(f"#!/bin/sh\necho '{json.dumps(template)}'\n")
    compiler.chmod(0o755)
    return str(compiler)


def test_deployment_is_let_through_when_nothing_of_others_is_touched(azure: Azure) -> None:
    azure.vault(VAULT, rbac=True)
    # Made before groups had the deployment's own tag.
    azure.group(GROUP, **{"azd-env-name": NAME})
    azure.put(f"{GROUP}/providers/Microsoft.Web/sites/func-ntahzgsvpb3mg", location=LOCATION)
    azure.forget_requests()
    done = azure.run("preprovision", RELAY_KEY_VAULT_ID=VAULT)
    assert done.returncode == 0, done.stderr
    assert "rg-team holds 1 resources of others" in done.stdout
    assert VAULT in done.stdout
    assert azure.written() == []


def test_every_cause_is_named_when_others_would_be_touched(azure: Azure) -> None:
    # Of another azd project, whose environment has the same name.
    azure.group(GROUP, **{"azd-env-name": NAME})
    azure.put(f"{GROUP}/providers/Microsoft.Web/sites/func-theirs", location=LOCATION)
    watched_group = f"{SUBSCRIPTION[:-3]}002/resourceGroups/rg-{NAME}"
    azure.group(watched_group, **{"azd-env-name": "another", "wandb-finetune-relay": "x"})
    azure.vault(VAULT, rbac=False)
    properties = {"source": VAULT, "topicType": "Microsoft.KeyVault.vaults"}
    azure.put(TOPIC, location=LOCATION, properties=properties)
    watched = ",".join(f"{SUBSCRIPTION[15:-3]}{n:03}" for n in range(2, 43))
    _say(azure, f"{SUBSCRIPTION[:-3]}042", {"error": {"code": "SubscriptionNotFound"}}, 404)
    azure.forget_requests()
    done = azure.run(
        "preprovision",
        RELAY_KEY_VAULT_ID=VAULT,
        RELAY_ADDITIONAL_VAULT_IDS=f"{VAULT}-gone,{VAULT.replace('rg-team', 'RG-Team')}",
        RELAY_WATCHED_SUBSCRIPTION_IDS=watched,
        RELAY_ADDITIONAL_SECRET_NAMES=",".join(f"s{n}" for n in range(25)),
    )
    assert done.returncode == 1
    for cause in (
        f"the resource group {GROUP} exists and is not of this deployment",
        f"the resource group {watched_group} exists and is not of this deployment",
        f"{VAULT.lower()} has a system topic already: {TOPIC}",
        f"{VAULT} uses access policies",
        f"the vault {VAULT}-gone is not there",
        f"use {VAULT}",
        f"the subscription of {VAULT} is not watched",
        "26 secret names do not fit",
        "41 watched subscriptions exceed",
        f"{SUBSCRIPTION[:-3]}042 cannot be read",
    ):
        assert cause in done.stderr, cause
    assert "Traceback" not in done.stderr
    assert azure.written() == []


def test_region_is_kept_when_the_group_is_there(azure: Azure) -> None:
    tags = {"azd-env-name": NAME, "wandb-finetune-relay": "x"}
    azure.group(GROUP, **tags)
    azure.group(f"{FURTHER}/resourceGroups/rg-{NAME}", **tags)
    done = azure.run(
        "preprovision",
        AZURE_LOCATION="East US 2",
        RELAY_WATCHED_SUBSCRIPTION_IDS=f"{SUBSCRIPTION[15:]},{FURTHER[15:]}",
    )
    assert done.returncode == 1
    assert done.stderr.count("a group does not move") == 2


def test_old_name_of_a_value_is_refused_when_the_new_one_is_not_set(azure: Azure) -> None:
    folder = ROOT / ".azure" / "old-names-of-a-test"
    folder.mkdir(parents=True)
    try:
        (folder / ".env").write_text('APPLY_MODE="observe"\nDATASETS="content"\nOTHER="x"\n')
        done = azure.run("preprovision", AZURE_ENV_NAME=folder.name, RELAY_DATASETS="content")
    finally:
        (folder / ".env").unlink()
        folder.rmdir()
    assert done.returncode == 1
    assert (
        "APPLY_MODE is set in the azd environment and is called RELAY_APPLY_MODE now" in done.stderr
    )
    assert "DATASETS" not in done.stderr


def test_preflight_finds_nothing_when_all_is_well(azure: Azure) -> None:
    done = azure.preflight()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "problem" not in done.stdout
    assert azure.written() == []


def test_preflight_names_cause_and_remedy_when_something_would_fail(azure: Azure) -> None:
    closed = {"publicNetworkAccess": "Disabled", "networkAcls": {"bypass": "None"}}
    azure.vault(VAULT, rbac=True, **closed)
    held = {"value": [{"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}]}
    _say(azure, "/providers/Microsoft.Authorization/permissions", held)
    _say(azure, "/functionAppStacks", {"value": []})
    usage = {"name": {"value": "memory"}, "currentValue": 5, "limit": 5}
    _say(azure, "/usages", {"value": [usage]})
    _say(azure, "/roleAssignmentsUsageMetrics", {"roleAssignmentsRemainingCount": 3})
    azure.forget_requests()
    done = azure.preflight(RELAY_KEY_VAULT_ID=VAULT, BICEP="")
    assert done.returncode == 1
    for cause in (
        f"the firewall of {VAULT} would not let the app in",
        f"the firewall of {VAULT} does not let trusted services in",
        f"no right on {SUBSCRIPTION} to Microsoft.Authorization/roleDefinitions/write",
        "offers Python in no version on Flex Consumption, not 3.13",
        "the quota memory in swedencentral is used up: 5 of 5",
        "takes only 3 more role assignments",
    ):
        assert cause in done.stdout, cause
    assert done.stdout.count("remedy: ") == 7  # the rights are checked on two scopes
    assert azure.written() == []


def test_preflight_names_the_region_and_the_deleted_vault_when_they_stand_in_the_way(
    azure: Azure,
) -> None:
    vault = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-old"
    azure.vault(vault, rbac=True)
    tags = {"tags": {"azd-env-name": NAME}}
    assert azure.ask("PATCH", vault, tags)[0] == 200
    azure.ask("DELETE", vault)
    done = azure.preflight(AZURE_LOCATION="nowhere", BICEP="")
    assert done.returncode == 1
    assert "nowhere does not offer Flex Consumption" in done.stdout
    assert "az keyvault recover -n kv-old" in done.stdout


def test_preflight_says_so_when_nobody_is_signed_in(azure: Azure) -> None:
    azure.sign_in(False)
    done = azure.preflight()
    assert done.returncode == 1
    assert "not signed in" in done.stderr


def test_preflight_shows_the_policy_when_it_would_deny(azure: Azure, tmp_path: Path) -> None:
    denied = {"code": "RequestDisallowedByPolicy", "message": "'No public storage'"}
    outer = {"code": "InvalidTemplateDeployment", "message": "see details", "details": [denied]}
    _say(azure, "/operationResults/", {"status": "Failed", "error": outer})
    done = azure.preflight(BICEP=_compiler(tmp_path))
    assert done.returncode == 1
    assert "RequestDisallowedByPolicy: 'No public storage'" in done.stdout
    assert "see details" not in done.stdout
    assert json.dumps(outer) not in done.stdout


def test_preflight_shows_the_name_when_it_is_taken(azure: Azure, tmp_path: Path) -> None:
    compiler = _compiler(tmp_path)
    storage = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/st1"
    changes = [
        {"changeType": "Create", "resourceId": storage},
        {"changeType": "Modify", "resourceId": f"{storage}2"},
        {"changeType": "Create", "resourceId": f"{GROUP}/providers/Microsoft.Web/serverfarms/p"},
    ]
    _say(azure, "/operationResults/", {"status": "Succeeded", "properties": {"changes": changes}})
    taken = {"nameAvailable": False, "message": "The storage account named st1 is already taken."}
    _say(azure, "/Microsoft.Storage/checkNameAvailability", taken, method="POST")
    done = azure.preflight(BICEP=compiler)
    assert done.returncode == 1
    assert "the name st1 is taken: The storage account named st1 is already taken." in done.stdout
    assert done.stdout.count("remedy: ") == 1


def test_preflight_says_so_when_azd_has_no_environment(azure: Azure) -> None:
    done = azure.preflight(PATH="/usr/bin:/bin")
    assert done.returncode == 1
    assert "azd is not on the PATH" in done.stderr


def test_help_needs_neither_azd_nor_azure() -> None:
    command = [sys.executable, "-m", "infra.commands.preflight", "--help"]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "before `azd up`" in done.stdout
