"""Finds what this deployment made or was given outside its resource group, and takes it back.

It knows its own by deterministic names: a role assignment's name is made of scope, principal and
role, a custom role's of its scope; event subscriptions, topics and alerts have the deployment's
token; in an access policy, the app's identity counts. It leaves everything else alone.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from arm import Arm, ArmError, Json, Stop
from deployment import Deployment, group_of, guid

KINDS: Final = (
    "event subscription",
    "alert",
    "system topic",
    "role assignment",
    "access policy",
    "custom role",
    "resource group",
)
"""In the order in which they can be removed."""
_EVENTS: Final = ("accounts", "secrets", "policies")
"""Event subscriptions, by the first part of their names."""
_SOURCES: Final = ("microsoft.keyvault.vaults", "microsoft.resources.subscriptions")
_ALERTS: Final = (
    "microsoft.insights/metricalerts",
    "microsoft.insights/scheduledqueryrules",
    "microsoft.insights/actiongroups",
)
_HAS_RIGHTS: Final = re.compile(r"^/subscriptions/[^/]+(/.*/vaults/[^/]+)?$", re.IGNORECASE)
"""Scopes outside the app's own resources that the templates give rights on."""
_AT_ONCE: Final = 8
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing that is there, by its id; of a policy, the vault's.

    `others` subscribe to this topic, so it stays. `holds`: ids of what is in this group, in lower
    case. `entry`: what goes of an access policy.
    """

    kind: str
    id: str
    others: str = ""
    holds: tuple[str, ...] = ()
    entry: Json | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Its id in lower case; a custom role has several ids, but one name."""
        return (self.id.rpartition("/")[2] if self.kind == "custom role" else self.id).lower()

    def __str__(self) -> str:
        stays = f" (stays: {self.others} belong to others)" if self.others else ""
        of = f" ({', '.join(self.entry['permissions']['secrets'])})" if self.entry else ""
        return f"{self.kind}{of}: {self.id}{stays}"


class Given:
    """What the app's identity `principal` and the names with `token` have in the tenant."""

    def __init__(self, arm: Arm, deployment: Deployment, principal: str, token: str) -> None:
        self._arm = arm
        self._deployment = deployment
        self._principal = principal.lower()
        self._token = token

    def surplus(self) -> list[Thing]:
        """Return what an earlier deployment made or gave and the settings no longer want."""
        permissions = {
            right["vaultId"].lower(): set(right["secretPermissions"])
            for right in self._deployment.rights()
            if "vaultId" in right
        }
        wanted = self._wanted()
        return _removable(
            [one for one in self._all(permissions) if not self._is_wanted(one, wanted)]
        )

    def outside(self) -> list[Thing]:
        """Return everything that deleting the app's resource group leaves behind."""
        within = self._deployment.is_within
        return _removable([one for one in self._all({}) if not within(one.id)])

    def _all(self, permissions: dict[str, set[str]]) -> list[Thing]:
        """Return all things; of a policy what goes beyond `permissions`, by vault."""

        def of(subscription: str) -> list[Thing]:
            try:
                return [
                    *self._events(subscription),
                    *self._alerts(subscription),
                    *self._assignments(subscription),
                    *self._policies(subscription, permissions),
                    *self._roles(subscription),
                    *self._groups(subscription),
                ]
            except ArmError as error:
                if error.status != 403 or subscription.lower() in self._deployment.subscriptions:
                    raise
                print(f"{subscription} is not looked at: you may not read it")
                return []

        # All that the person can see: settings may name fewer than they once did.
        visible = [one["id"] for one in self._arm.each("/subscriptions")]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = [one for each in pool.map(of, visible) for one in each]
        # A list at a subscription also names what is given above it.
        return sorted(dict.fromkeys(found), key=lambda one: KINDS.index(one.kind))

    def _events(self, subscription: str) -> Iterator[Thing]:
        names = [f"{kind}-{self._token}" for kind in _EVENTS]
        for topic in self._arm.each(f"{subscription}/providers/Microsoft.EventGrid/systemTopics"):
            if topic["properties"]["topicType"].lower() not in _SOURCES:
                continue
            found = list(self._arm.each(f"{topic['id']}/eventSubscriptions"))
            for one in found:
                if one["name"] in names:
                    yield Thing("event subscription", one["id"])
            if self._deployment.is_own(topic.get("tags")) and self._token in topic["name"]:
                others = [one["name"] for one in found if one["name"] not in names]
                yield Thing("system topic", topic["id"], others=", ".join(others))

    def _alerts(self, subscription: str) -> Iterator[Thing]:
        query = f"tagName eq 'azd-env-name' and tagValue eq '{self._deployment.name}'"
        for one in self._arm.each(f"{subscription}/resources?$filter={query}"):
            # An alert beside a topic that existed had no token in its name at first.
            named = self._token in one["name"] or one["name"].endswith("-dead-letters")
            if one["type"].lower() in _ALERTS and named:
                yield Thing("alert", one["id"])

    def _assignments(self, subscription: str) -> Iterator[Thing]:
        path = f"{subscription}/providers/Microsoft.Authorization/roleAssignments"
        for one in self._arm.each(f"{path}?$filter=principalId eq '{self._principal}'"):
            scope, role = one["properties"]["scope"], one["properties"]["roleDefinitionId"]
            principal, last = one["properties"]["principalId"], scope.rpartition("/")[2]
            names = (guid(scope, principal, role.rpartition("/")[2]), guid(last, role, principal))
            # The notices topic is the deployment's; a module chose the assignment's name.
            on_notices = last == f"evgt-{self._token}"
            if on_notices or (_HAS_RIGHTS.search(scope) and one["name"] in names):
                yield Thing("role assignment", one["id"])

    def _policies(self, subscription: str, permissions: dict[str, set[str]]) -> Iterator[Thing]:
        for vault in self._arm.each(f"{subscription}/providers/Microsoft.KeyVault/vaults"):
            for entry in vault["properties"].get("accessPolicies") or ():
                if entry["objectId"].lower() != self._principal:
                    continue
                held = {one.lower() for one in entry["permissions"].get("secrets") or ()}
                # The deployment never gives more than these two.
                gone = sorted((held & {"get", "set"}) - permissions.get(vault["id"].lower(), set()))
                if gone:
                    policy = {name: entry[name] for name in ("tenantId", "objectId")}
                    policy |= {"permissions": {"secrets": gone}}
                    yield Thing("access policy", vault["id"], entry=policy)

    def _roles(self, subscription: str) -> Iterator[Thing]:
        path = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions"
        for one in self._arm.each(f"{path}?$filter=atScopeAndBelow()"):
            if one["properties"]["type"] != "CustomRole":
                continue
            scope = one["properties"]["assignableScopes"][0]
            # As in 'WandB relay - add access policies (ENVIRONMENT, VAULT)'.
            vault = one["properties"]["roleName"].rpartition(", ")[2].removesuffix(")")
            if one["name"] in (
                guid(scope, self._deployment.name, self._token, "accounts"),
                guid(scope, vault, self._deployment.name, "policy writer"),
            ):
                yield Thing("custom role", one["id"])

    def _groups(self, subscription: str) -> Iterator[Thing]:
        group = f"{subscription}/resourceGroups/{self._deployment.group_name}"
        found = None if self._deployment.is_within(group) else self._arm.find(group)
        if found is not None and self._deployment.owns_group(self._arm, found):
            holds = tuple(one["id"].lower() for one in self._arm.each(f"{group}/resources"))
            yield Thing("resource group", found["id"], holds=holds)

    def _is_wanted(self, thing: Thing, wanted: set[str]) -> bool:
        if f"/topics/evgt-{self._token}/" in thing.id:
            return bool(self._deployment.environ.get("NOTICES_TOPIC_NAME"))
        if thing.kind == "alert" and self._deployment.is_within(thing.id):
            # The rules and who is notified; a topic's own alert goes with the topic.
            beside_topic = thing.id.endswith("-dead-letters") and thing.key not in wanted
            return self._deployment.has_alerts and not beside_topic
        return thing.entry is None and thing.key in wanted

    def _wanted(self) -> set[str]:
        """Return the keys of what the settings want."""
        deployment = self._deployment
        wanted = {one for right in deployment.rights() for one in right["assignments"]}
        wanted |= {
            one.rpartition("/")[2] for right in deployment.rights() for one in right["roles"]
        }
        for output, kinds in (("ACCOUNT_TOPIC_IDS", _EVENTS[:1]), ("VAULT_TOPIC_IDS", _EVENTS[1:])):
            for topic in deployment.output(output).split():
                name = topic.rpartition("/")[2]
                # As infra/modules/system-topic.bicep names it beside a topic that existed.
                suffix = "" if self._token in name else f"-{self._token}"
                alert = f"{name}-dead-letters{suffix}"
                wanted.add(topic)
                wanted |= {f"{topic}/eventSubscriptions/{kind}-{self._token}" for kind in kinds}
                if deployment.has_alerts:
                    wanted.add(
                        f"{group_of(topic)}/providers/Microsoft.Insights/metricAlerts/{alert}"
                    )
        return {one.lower() for one in wanted}


def _removable(things: list[Thing]) -> list[Thing]:
    """Leave out groups that would not be empty."""
    gone = {thing.id.lower() for thing in things if not thing.others}
    return [thing for thing in things if gone.issuperset(thing.holds)]


def take_back(arm: Arm, things: list[Thing], pause_s: float) -> None:
    """Remove the things, each shown. Raises Stop when some could not be removed.

    A thing may be held for a while by another that is still being removed, so each is tried
    several times, `pause_s` apart.
    """
    left, failed = [thing for thing in things if not thing.others], dict[Thing, ArmError]()
    for attempt in range(_ATTEMPTS):
        time.sleep(pause_s if attempt else 0)
        failed = {}
        for thing in left:
            print(f"  removing {thing}", flush=True)
            try:
                _remove(arm, thing)
            except ArmError as error:
                failed[thing] = error
        left = list(failed)
        if not left:
            return
    raise Stop(
        "not everything could be removed:\n  "
        + "\n  ".join(f"{thing}: {error}" for thing, error in failed.items()),
        "get the right or remove the lock, and run the hook again",
    )


def _remove(arm: Arm, thing: Thing) -> None:
    if thing.entry is None:
        arm.delete(thing.id)
    else:
        body = {"properties": {"accessPolicies": [thing.entry]}}
        arm.put(f"{thing.id}/accessPolicies/remove", body)
