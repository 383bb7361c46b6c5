"""Previews of every set-up: who gets which right, and that a setting put back takes it away."""

import os
import pty
import re
from collections import Counter

import pytest

from tests.infra.azure import Azure
from tests.infra.bicep import ROOT
from tests.infra.previews import (
    COMPILER,
    EXISTING_TOPICS,
    FURTHER,
    GROUP,
    NAME,
    SETUPS,
    SUBSCRIPTION,
    VAULT,
    VAULT_B,
    Preview,
    guid,
    previews,
    principal_of,
    scope_of,
)
from tests.infra.test_rights import ROLES

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no Bicep compiler: BICEP is not set")

SECURITY = ROOT / "docs" / "security.md"
COLUMNS = {
    "default": "default",
    "observe": "`observe`",
    "mint": "`mint`",
    "cancel": "`cancel`",
    "data-access": "`dataAccess…`",
    "policies": "policies",
    "notices": "notices",
}
"""Set-ups whose rights differ, and what the table in docs/security.md calls them."""
CHANGES = (
    "default",
    "observe",
    "mint",
    "cancel",
    "data-access",
    "existing-vault",
    "policies-mint",
    "policies",
    "two-vaults",
    "existing-topics",
    "notices",
    "no-alerts",
    "default",
)
"""One deployment whose settings change, so that each is set and put back."""
READER = "21090545-7ca7-4776-b22c-e363652d74d2"
THEIR_ROLE = f"{VAULT}/providers/Microsoft.Authorization/roleAssignments/{guid('theirs')}"
THEIR_ALERT = f"{VAULT.partition('/providers')[0]}/providers/Microsoft.Insights/metricAlerts/theirs"
_TAKEN_BACK = (
    "Microsoft.EventGrid/systemTopics",
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/metricAlerts",
    "Microsoft.Insights/scheduledQueryRules",
)


@pytest.fixture(scope="module")
def previewed(request: pytest.FixtureRequest) -> dict[str, Preview]:
    assert request.config.cache is not None
    return previews(request.config.cache.mkdir("previews"), list(SETUPS))


def _place(scope: str) -> str:
    """Say what a scope is."""
    kind = re.search(r"/providers/([\w.]+/\w+)/", scope)
    if scope.endswith("/containers/dead-letters"):
        return "container `dead-letters`"
    return {
        None: "watched subscription",
        "Microsoft.Insights/components": "Application Insights",
        "Microsoft.KeyVault/vaults": "vault",
        "Microsoft.Storage/storageAccounts": "own storage",
        "Microsoft.EventGrid/topics": "notices topic",
    }[kind and kind[1]]


def _rights(preview: Preview) -> Counter[tuple[str, str]]:
    """Count the role assignments by role and kind of scope."""
    custom = {
        one["name"]: "custom role *" + one["properties"]["roleName"].partition(" (")[0] + "*"
        for one in preview.of_type("Microsoft.Authorization/roleDefinitions")
    }
    found: Counter[tuple[str, str]] = Counter()
    for one in preview.assignments:
        role = one["properties"]["roleDefinitionId"].rpartition("/")[2]
        name = ROLES.get(role) or custom[role]
        found[name.replace("observe accounts", "look after accounts"), _place(scope_of(one))] += 1
    return found


def _table(previewed: dict[str, Preview]) -> str:
    rights = {name: _rights(previewed[name]) for name in COLUMNS}
    rows = sorted(
        {right for found in rights.values() for right in found}, key=lambda one: one[::-1]
    )
    lines = [
        "| role | on | " + " | ".join(COLUMNS.values()) + " |",
        "| --- | --- |" + " --- |" * len(COLUMNS),
    ]
    for role, place in rows:
        cells = ["yes" if found[role, place] else "–" for found in rights.values()]
        lines.append(f"| {role} | {place} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_nothing_is_diagnosed(previewed: dict[str, Preview]) -> None:
    assert {name: one.diagnostics for name, one in previewed.items() if one.diagnostics} == {}


def test_rights_are_those_of_the_document(previewed: dict[str, Preview]) -> None:
    table = _table(previewed)
    assert table in SECURITY.read_text(), f"docs/security.md should have:\n{table}"


def test_rights_are_the_default_ones_when_a_setup_is_not_in_the_table(
    previewed: dict[str, Preview],
) -> None:
    default = _rights(previewed["default"])
    for name in ("existing-vault", "existing-topics", "private", "no-alerts"):
        assert _rights(previewed[name]) == default, name
    assert _rights(previewed["private-existing-vault"]) == default
    assert _rights(previewed["policies-mint"]) == _rights(previewed["policies"])
    doubled = {"vault", "watched subscription"}
    assert _rights(previewed["two-vaults"]) == Counter(
        {
            (role, place): count * (2 if place in doubled else 1)
            + (2 if place.startswith("container") else 0)
            for (role, place), count in default.items()
        }
    )


def test_only_the_vaults_own_permissions_differ_when_it_has_policies(
    previewed: dict[str, Preview],
) -> None:
    given = {
        name: [
            entry["permissions"]["secrets"]
            for one in previewed[name].of_type("Microsoft.KeyVault/vaults/accessPolicies")
            for entry in one["properties"]["accessPolicies"]
        ]
        for name in ("default", "policies", "policies-mint")
    }
    assert given == {"default": [], "policies": [["get"]], "policies-mint": [["get", "set"]]}


def test_custom_role_can_change_accounts_unless_the_app_only_observes(
    previewed: dict[str, Preview],
) -> None:
    def written(name: str) -> list[str]:
        (role,) = previewed[name].of_type("Microsoft.Authorization/roleDefinitions")
        (permission,) = role["properties"]["permissions"]
        assert set(permission) == {"actions"}
        assert "Microsoft.CognitiveServices/accounts/read" in permission["actions"]
        return [action for action in permission["actions"] if not action.endswith("/read")]

    assert written("default") == ["Microsoft.CognitiveServices/accounts/write"]
    assert written("observe") == []


def test_condition_goes_with_rbac_administrator_only(previewed: dict[str, Preview]) -> None:
    for name, preview in previewed.items():
        for one in preview.assignments:
            role = ROLES.get(one["properties"]["roleDefinitionId"].rpartition("/")[2])
            has_condition = bool(one["properties"].get("condition"))
            assert has_condition == (role == "Role Based Access Control Administrator"), name


def test_empty_zone_does_not_hide_an_existing_vault(previewed: dict[str, Preview]) -> None:
    def zones(name: str) -> list[str]:
        found = previewed[name].of_type("Microsoft.Network/privateDnsZones")
        return [one["name"].split(".")[1] for one in found]

    assert zones("private") == ["blob", "queue", "table", "vaultcore"]
    assert zones("private-existing-vault") == ["blob", "queue", "table"]


def test_names_are_worked_out_as_the_compiler_does(previewed: dict[str, Preview]) -> None:
    # Custom roles have names without anything that only Azure knows.
    (role,) = previewed["default"].of_type("Microsoft.Authorization/roleDefinitions")
    token = previewed["default"].outputs["EVENT_SUBSCRIPTION_SUFFIX"]
    text = f"{SUBSCRIPTION}-{NAME}-{token}-accounts"
    assert role["name"] == guid(text)


def test_setting_takes_back_what_it_gave_when_it_is_put_back(
    azure: Azure, previewed: dict[str, Preview]
) -> None:
    _stage(azure)
    before: Preview | None = None
    for name in CHANGES:
        preview = previewed[name]
        _choose(azure, name)
        azure.deploy(preview)
        _subscribe(azure)
        azure.forget_requests()
        done = azure.run("postprovision")
        assert done.returncode == 0, (name, done.stderr)
        removed = {path for method, path in azure.written() if method == "DELETE"}
        if before is not None:
            gone = _names(before) - _names(preview)
            children = {path for path in removed if "/eventSubscriptions/" in path}
            assert {_short(path) for path in removed - children} == gone, name
        assert _kept(azure) == _names(preview), name
        assert _permissions(azure) == _policy(preview), name
        # All that will go is shown before the first goes.
        shown = done.stdout.partition("  removing")[0]
        assert all(path in shown for path in removed), name
        before = preview
    _others_are_untouched(azure)


def test_nothing_of_the_deployment_is_left_when_it_is_removed(
    azure: Azure, previewed: dict[str, Preview]
) -> None:
    _stage(azure)
    _choose(azure, "two-vaults")
    azure.deploy(previewed["two-vaults"])
    _subscribe(azure)
    stray = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/theirs"
    azure.put(stray, location="swedencentral")
    azure.forget_requests()
    done = azure.run("predown")
    assert done.returncode == 1
    assert stray in done.stderr
    assert azure.written() == []
    azure.ask("DELETE", stray)

    # A deployment that failed halfway left no outputs.
    outputs = {name: "" for name in previewed["two-vaults"].outputs if name != "AZURE_LOCATION"}
    refused = {"status": 403, "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}}
    azure.fault("DELETE", f"{VAULT}/", refused, times=6)
    done = azure.run("predown", **outputs)
    assert done.returncode == 1
    assert "not everything could be removed" in done.stderr
    done = azure.run("predown", **outputs)
    assert done.returncode == 0, done.stderr
    assert {one for one in _kept(azure) if f"{GROUP}/" not in one} == set()
    assert azure.ask("GET", f"{FURTHER}/resourceGroups/rg-{NAME}")[0] == 404
    assert azure.ask("GET", GROUP)[0] == 200  # azd deletes it
    _others_are_untouched(azure)
    azure.forget_requests()
    assert azure.run("predown", **outputs).returncode == 0
    assert azure.written() == []


def test_removal_asks_first_and_leaves_a_topic_that_others_subscribe_to(
    azure: Azure, previewed: dict[str, Preview]
) -> None:
    _stage(azure)
    _choose(azure, "existing-vault")
    azure.deploy(previewed["existing-vault"])
    (topic,) = previewed["existing-vault"].outputs["VAULT_TOPIC_IDS"].split()
    azure.put(f"{topic}/eventSubscriptions/theirs")
    azure.forget_requests()
    terminal, end = pty.openpty()
    os.write(terminal, b"n\n")
    done = azure.run("predown", stdin=end)
    assert done.returncode == 1
    assert "not removed" in done.stderr
    assert azure.written() == []

    os.write(terminal, b"y\n")
    done = azure.run("predown", stdin=end)
    assert done.returncode == 0, done.stderr
    assert "theirs belong to others" in done.stdout
    assert azure.ask("GET", f"{topic}/eventSubscriptions/theirs")[0] == 200


def test_subscription_of_others_is_left_out_when_it_may_not_be_read(
    azure: Azure, previewed: dict[str, Preview]
) -> None:
    _choose(azure, "default")
    azure.deploy(previewed["default"])
    hidden = f"{SUBSCRIPTION[:-1]}9"
    azure.group(f"{hidden}/resourceGroups/rg-{NAME}")
    refused = {"status": 403, "body": {"error": {"code": "AuthorizationFailed", "message": "no"}}}
    azure.fault("GET", f"{hidden}/", refused)
    done = azure.run("postprovision")
    assert done.returncode == 0, done.stderr
    assert f"{hidden} is not looked at: you may not read it" in done.stdout

    azure.fault("GET", f"{SUBSCRIPTION}/providers/Microsoft.EventGrid", refused)
    done = azure.run("postprovision")
    assert done.returncode == 1
    assert "AuthorizationFailed (403)" in done.stderr


def _stage(azure: Azure) -> None:
    """Two vaults and two topics of others, and what others gave and made beside them."""
    azure.vault(VAULT, rbac=True)
    azure.vault(VAULT_B, rbac=True)
    for source, topic in EXISTING_TOPICS.items():
        kind = (
            "Microsoft.KeyVault.vaults"
            if "vaults" in source
            else "Microsoft.Resources.Subscriptions"
        )
        azure.put(topic, identity={}, properties={"topicType": kind, "source": f"{source}/other"})
    identity = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    # A right that a person gave to the app, under a name of their own.
    principal = principal_of(f"{identity}/id-ntahzgsvpb3mg")
    role = f"/providers/Microsoft.Authorization/roleDefinitions/{READER}"
    azure.put(THEIR_ROLE, properties={"roleDefinitionId": role, "principalId": principal})
    azure.put(THEIR_ALERT, location="global")
    _put_policy(azure, "their-app", ["get", "set"])


def _put_policy(azure: Azure, principal: str, secrets: list[str]) -> None:
    entry = {"tenantId": "t", "objectId": principal, "permissions": {"secrets": secrets}}
    azure.put(f"{VAULT}/accessPolicies/add", properties={"accessPolicies": [entry]})


def _others_are_untouched(azure: Azure) -> None:
    assert azure.ask("GET", THEIR_ROLE)[0] == 200
    assert azure.ask("GET", THEIR_ALERT)[0] == 200
    for topic in EXISTING_TOPICS.values():
        assert azure.ask("GET", topic)[0] == 200
    vault = azure.ask("GET", VAULT)[1]
    assert [one["objectId"] for one in vault["properties"]["accessPolicies"]] == ["their-app"]


def _choose(azure: Azure, name: str) -> None:
    """Set the azd environment's values as the set-up has them."""
    parameters = SETUPS[name]
    azure.environ |= {
        "RELAY_KEY_VAULT_ID": parameters.get("keyVaultId", ""),
        "RELAY_ADDITIONAL_VAULT_IDS": parameters.get("additionalVaultIds", ""),
        "RELAY_WATCHED_SUBSCRIPTION_IDS": parameters.get("watchedSubscriptionIds", ""),
        "RELAY_ALERTS_ENABLED": str(parameters.get("alertsEnabled", True)).lower(),
    }


def _subscribe(azure: Azure) -> None:
    token = azure.environ["EVENT_SUBSCRIPTION_SUFFIX"]
    for topic in azure.environ["VAULT_TOPIC_IDS"].split():
        azure.put(f"{topic}/eventSubscriptions/secrets-{token}")
    for topic in azure.environ["ACCOUNT_TOPIC_IDS"].split():
        azure.put(f"{topic}/eventSubscriptions/accounts-{token}")


def _short(path: str) -> str:
    """A custom role has several ids but one name."""
    return path.rpartition("/")[2] if "/roleDefinitions/" in path else path


def _is_outside(scope: str) -> bool:
    return bool(re.fullmatch(r"/subscriptions/[^/]+(/.*/vaults/[^/]+)?", scope)) or (
        "/Microsoft.EventGrid/topics/" in scope
    )


def _names(preview: Preview) -> set[str]:
    """Return what the preview has of the kinds that the hooks take back."""
    assigned = {one["id"] for one in preview.assignments if _is_outside(scope_of(one))}
    roles = {one["name"] for one in preview.of_type("Microsoft.Authorization/roleDefinitions")}
    rest = {one["id"] for kind in _TAKEN_BACK for one in preview.of_type(kind)}
    further = {
        one["id"]
        for one in preview.of_type("Microsoft.Resources/resourceGroups")
        if one["id"] != GROUP
    }
    return assigned | roles | rest | further


def _kept(azure: Azure) -> set[str]:
    """Return what the sandbox has of the same, without what others made."""
    found: set[str] = set()
    for subscription in (SUBSCRIPTION, FURTHER):

        def listed(path: str, where: str = subscription) -> list[dict]:
            return azure.ask("GET", f"{where}/{path}")[1]["value"]

        path = "providers/Microsoft.Authorization"
        found |= {
            one["id"]
            for one in listed(f"{path}/roleAssignments")
            if _is_outside(one["properties"]["scope"])
        }
        custom = [
            one
            for one in listed(f"{path}/roleDefinitions")
            if one["properties"]["type"] == "CustomRole"
        ]
        found |= {one["name"] for one in custom}
        found |= {one["id"] for kind in _TAKEN_BACK for one in listed(f"providers/{kind}")}
        found |= {one["id"] for one in listed("resourceGroups") if one["name"] == f"rg-{NAME}"}
    return found - {THEIR_ROLE, THEIR_ALERT, GROUP, *EXISTING_TOPICS.values()}


def _permissions(azure: Azure) -> list[list[str]]:
    vault = azure.ask("GET", VAULT)[1]
    return [
        one["permissions"]["secrets"]
        for one in vault["properties"]["accessPolicies"]
        if one["objectId"] != "their-app"
    ]


def _policy(preview: Preview) -> list[list[str]]:
    return [
        right["secretPermissions"]
        for right in preview.outputs["VAULT_RIGHTS"]
        if right["secretPermissions"]
    ]
