"""Checks what must hold before anything is written; a problem has its cause and remedy. Reads only.

GUARDS protect what belongs to others and run before each provision. SURVEYS find what would fail,
and run with `python -m infra.commands.preflight`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

from arm import Arm, ArmError, Json
from deployment import INFRA, Deployment, group_of

_MOST_SECRETS: Final = 25
"""Values of one filter of an event subscription, and values of all its filters together."""
_MOST_SUBSCRIPTIONS: Final = 40
"""With about 45 the expanded template meets ARM's limit of 4 MB."""
_NEEDED_ASSIGNMENTS: Final = 12
_PYTHON: Final = "3.13"
_SUBSCRIPTION_ACTIONS: Final[tuple[str, ...]] = (
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.EventGrid/systemTopics/write",
    "Microsoft.Authorization/roleDefinitions/write",
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Authorization/roleAssignments/delete",
)
_VAULT_ACTIONS: Final[tuple[str, ...]] = tuple(
    action for action in _SUBSCRIPTION_ACTIONS if "resourceGroups" not in action
)
_MADE_BY_AZURE: Final = (
    "microsoft.alertsmanagement/smartdetectoralertrules",
    # Of private endpoints; someone else's is beside a machine that is theirs as well.
    "microsoft.network/networkinterfaces",
)


@dataclass(frozen=True, slots=True)
class Problem:
    cause: str
    remedy: str


Check = Callable[[Arm, Deployment], Iterator[Problem]]


def check_subscriptions(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """The person who is signed in can see every subscription."""
    for subscription in dict.fromkeys((deployment.subscription, *deployment.watched)):
        try:
            arm.get(subscription)
        except ArmError as error:
            yield Problem(
                f"{subscription} cannot be read: {error}",
                "azd auth login with the tenant and the person that have it; correct"
                " AZURE_SUBSCRIPTION_ID or RELAY_WATCHED_SUBSCRIPTION_IDS",
            )


def check_names(_arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """No value is set under a name of before the prefix: it would silently be ignored."""
    file = INFRA.parent / ".azure" / deployment.name / ".env"
    text = (INFRA / "main.parameters.json").read_text(encoding="utf-8")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for name in sorted({line.partition("=")[0].strip() for line in lines}):
        if f"${{RELAY_{name}=" in text and f"RELAY_{name}" not in deployment.environ:
            yield Problem(
                f"{name} is set in the azd environment and is called RELAY_{name} now",
                f"azd env set RELAY_{name} with the same value",
            )


def check_groups(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """A resource group is the deployment's own or does not exist: azd would take it over."""
    for group in deployment.groups:
        found = arm.find(group)
        if found is None:
            continue
        if not deployment.owns_group(arm, found):
            yield Problem(
                f"the resource group {group} exists and is not of this deployment: its tags"
                " would be replaced, and azd down would delete it with all that is in it",
                "azd env set RELAY_RESOURCE_GROUP NAME, with a name that is free",
            )
        elif deployment.location not in ("", found["location"].lower().replace(" ", "")):
            yield Problem(
                f"the resource group {group} is in {found['location']}, not in"
                f" {deployment.location}: a group does not move",
                f"azd env set AZURE_LOCATION {found['location']}; or azd down, then the new region",
            )


def check_topics(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """A source has only one system topic: one that is there must be named."""
    named = {one.lower(): topic for one, topic in deployment.parameters["existingTopics"].items()}
    sources = {one.lower() for one in (*deployment.watched, *deployment.vaults)}
    for topic in named.values():
        found = arm.find(topic)
        if found is None:
            yield Problem(f"existingTopics names {topic}, which is not there", "correct the id")
        elif not (found.get("identity") or {}).get("principalId"):
            yield Problem(
                f"{topic} has no system-assigned identity, which writes dead letters",
                "az eventgrid system-topic update -g GROUP -n NAME --identity systemassigned",
            )
    for subscription in sorted({"/".join(source.split("/")[:3]) for source in sources}):
        for topic in arm.each(f"{subscription}/providers/Microsoft.EventGrid/systemTopics"):
            source = topic["properties"]["source"].lower()
            own = deployment.is_own(topic.get("tags")) or source in named
            if source in sources and not own:
                yield Problem(
                    f"{source} has a system topic already: {topic['id']}",
                    "name it in existingTopics (docs/deploy.md, 'An existing system topic')",
                )


def check_limits(_arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """Azure's limits on the number of secrets and subscriptions are kept."""
    if len(deployment.secrets) > _MOST_SECRETS:
        yield Problem(
            f"{len(deployment.secrets)} secret names do not fit into one event filter, which"
            f" takes {_MOST_SECRETS}",
            "use fewer secrets, or several deployments",
        )
    if len(deployment.watched) > _MOST_SUBSCRIPTIONS:
        yield Problem(
            f"{len(deployment.watched)} watched subscriptions exceed what one template may hold,"
            f" about {_MOST_SUBSCRIPTIONS}",
            "spread them over several deployments, each with its own environment",
        )


def check_vaults(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """Each existing vault is there, its subscription is watched, and its mode is as set."""
    for vault in deployment.vaults:
        found = arm.find(vault)
        if found is None:
            yield Problem(f"the vault {vault} is not there", "correct RELAY_KEY_VAULT_ID")
            continue
        if found["id"] != vault:
            # The names of role assignments are made of it, and are how the hooks know them.
            yield Problem(
                f"{vault} is written otherwise than Azure writes it", f"use {found['id']}"
            )
        if "/".join(vault.split("/")[:3]).lower() not in deployment.watched:
            yield Problem(
                f"the subscription of {vault} is not watched, so the app would not find it",
                "add it to RELAY_WATCHED_SUBSCRIPTION_IDS",
            )
        rbac = bool(found["properties"].get("enableRbacAuthorization"))
        model = "rbac" if rbac else "accessPolicies"
        if model != deployment.parameters["vaultPermissionModel"]:
            yield Problem(
                f"{vault} uses {'Azure RBAC' if rbac else 'access policies'}",
                f"azd env set RELAY_VAULT_PERMISSION_MODEL {model}",
            )


def check_firewalls(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """The app and Azure OpenAI can reach each existing vault."""
    private = str(deployment.parameters["privateNetworking"]).lower() == "true"
    for vault in deployment.vaults:
        properties = (arm.find(vault) or {}).get("properties") or {}
        rules = properties.get("networkAcls") or {}
        closed = properties.get("publicNetworkAccess") == "Disabled"
        if not (closed or rules.get("defaultAction") == "Deny"):
            continue
        if not private:
            yield Problem(
                f"the firewall of {vault} would not let the app in",
                "azd env set RELAY_PRIVATE_NETWORKING true, and give its network a way to the"
                " vault (docs/deploy.md, 'Private networking')",
            )
        if rules.get("bypass") != "AzureServices":
            yield Problem(
                f"the firewall of {vault} does not let trusted services in: Azure OpenAI is one",
                "az keyvault update -n NAME --bypass AzureServices",
            )


def check_rights(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """The person who is signed in may do what the templates and hooks do."""
    scopes = dict.fromkeys((deployment.subscription, *deployment.watched), _SUBSCRIPTION_ACTIONS)
    scopes |= dict.fromkeys(map(group_of, deployment.vaults), _VAULT_ACTIONS)
    for scope, actions in scopes.items():
        held = list(arm.each(f"{scope}/providers/Microsoft.Authorization/permissions"))
        missing = [one for one in actions if not any(_allows(each, one) for each in held)]
        if missing:
            yield Problem(
                f"no right on {scope} to {', '.join(missing)}",
                "Owner there, or Contributor and User Access Administrator (docs/security.md,"
                " 'The person who deploys')",
            )


def check_region(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """The region offers Flex Consumption with the app's version of Python."""
    if not deployment.location:
        return
    path = f"{deployment.subscription}/providers/Microsoft.Web/geoRegions?sku=FlexConsumption"
    offered = {one["name"].lower().replace(" ", "") for one in arm.each(path)}
    if deployment.location not in offered:
        yield Problem(
            f"{deployment.location} does not offer Flex Consumption",
            f"azd env set AZURE_LOCATION, one of {', '.join(sorted(offered))}",
        )
        return
    path = f"/providers/Microsoft.Web/locations/{deployment.location}/functionAppStacks"
    versions = {
        minor["stackSettings"]["linuxRuntimeSettings"]["runtimeVersion"]
        for stack in arm.each(f"{path}?stack=python")
        for major in stack["properties"]["majorVersions"]
        for minor in major["minorVersions"]
        for sku in (minor["stackSettings"].get("linuxRuntimeSettings") or {}).get("Sku") or ()
        if sku["skuCode"] == "FC1"
    }
    if _PYTHON not in versions:
        yield Problem(
            f"{deployment.location} offers Python {', '.join(sorted(versions)) or 'in no version'}"
            f" on Flex Consumption, not {_PYTHON}",
            "another region",
        )


def check_quota(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """There is room for one more app, and for its role assignments."""
    if deployment.location:
        region = (
            f"{deployment.subscription}/providers/Microsoft.Web/locations/{deployment.location}"
        )
        for usage in arm.each(f"{region}/usages"):
            if 0 < usage["limit"] <= usage["currentValue"]:
                yield Problem(
                    f"the quota {usage['name']['value']} in {deployment.location} is used up:"
                    f" {usage['currentValue']} of {usage['limit']}",
                    "ask for more in the portal (Quotas), or another region",
                )
    for subscription in dict.fromkeys((deployment.subscription, *deployment.watched)):
        path = f"{subscription}/providers/Microsoft.Authorization/roleAssignmentsUsageMetrics"
        left = arm.get(path)["roleAssignmentsRemainingCount"]
        if left < _NEEDED_ASSIGNMENTS:
            yield Problem(
                f"{subscription} takes only {left} more role assignments",
                "remove unused ones",
            )


def check_deleted_vault(arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """The name of a new vault is not that of an earlier one, which is kept for 90 days."""
    path = f"{deployment.subscription}/providers/Microsoft.KeyVault/deletedVaults"
    for vault in () if deployment.vaults else arm.each(path):
        if deployment.is_own(vault["properties"].get("tags")):
            yield Problem(
                f"the vault {vault['name']} of an earlier deployment is soft-deleted and keeps"
                " its name",
                f"az keyvault recover -n {vault['name']}; or another environment name",
            )


GUARDS: Final[tuple[Check, ...]] = (
    check_subscriptions,
    check_names,
    check_groups,
    check_topics,
    check_limits,
    check_vaults,
)
SURVEYS: Final[tuple[Check, ...]] = (
    check_firewalls,
    check_rights,
    check_region,
    check_quota,
    check_deleted_vault,
)


def problems(check: Check, arm: Arm, deployment: Deployment) -> Iterator[Problem]:
    """Yield what a check finds; what it may not read is a problem as well."""
    try:
        yield from check(arm, deployment)
    except ArmError as error:
        yield Problem(f"cannot be checked: {error}", "get the right to read it")


def of_others(arm: Arm, deployment: Deployment, group: str) -> list[str]:
    """Return the ids of what a group holds that does not carry this environment's tag."""
    if arm.find(group) is None:
        return []
    return [
        one["id"]
        for one in arm.each(f"{group}/resources")
        if not deployment.is_own(one.get("tags"))
        and one["type"].lower() not in _MADE_BY_AZURE
        and one["name"] != "Application Insights Smart Detection"
    ]


def show_neighbours(arm: Arm, deployment: Deployment) -> None:
    """List what lies in the groups of existing vaults and topics, so that a change is seen."""
    topics = deployment.parameters["existingTopics"].values()
    for group in dict.fromkeys(map(group_of, (*deployment.vaults, *topics))):
        others = of_others(arm, deployment, group)
        print(f"{group} holds {len(others)} resources of others:")
        for one in others:
            print(f"  {one}")


def _allows(permission: Json, action: str) -> bool:
    def matches(name: str) -> bool:
        return any(fnmatch(action.lower(), one.lower()) for one in permission.get(name) or ())

    return matches("actions") and not matches("notActions")
