"""What is deployed, or will be: the parameters as azd fills them in, and the outputs it keeps.

azd hands its environment to a hook as environment variables; `existingTopics` is only in
main.parameters.json.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

from arm import Arm, Json, Stop

INFRA: Final = Path(__file__).resolve().parents[1]
_GUID_NAMESPACE: Final = UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
"""Of the template function guid(); a test compares it with the compiler."""
_OF_EARLIER: Final = re.compile(r"(func|evgst-accounts)-[a-z0-9]{13}$")
"""Names by which a resource group without the deployment's own tag is known."""


def guid(*parts: str) -> str:
    """Return what the template function of that name makes of the parts."""
    return str(uuid5(_GUID_NAMESPACE, "-".join(parts)))


def group_of(resource_id: str) -> str:
    """Return the id of the resource group that a resource is in."""
    return "/".join(resource_id.split("/")[:5])


class Deployment:
    """One azd environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.name = self._value("AZURE_ENV_NAME", "azd env new NAME")
        self.location = environ.get("AZURE_LOCATION", "").lower().replace(" ", "")
        subscription = self._value("AZURE_SUBSCRIPTION_ID", "azd env set AZURE_SUBSCRIPTION_ID ID")
        self.subscription = f"/subscriptions/{subscription.lower()}"

    @cached_property
    def parameters(self) -> Json:
        """The parameters of main.parameters.json; `${NAME=DEFAULT}` becomes the value or DEFAULT."""
        text = (INFRA / "main.parameters.json").read_text(encoding="utf-8")
        given: Json = json.loads(text)["parameters"]
        return {name: self._filled(entry["value"]) for name, entry in given.items()}

    @property
    def group_name(self) -> str:
        return str(self.parameters["resourceGroupName"] or f"rg-{self.name}")

    @property
    def group(self) -> str:
        """Id of the app's own resource group."""
        return f"{self.subscription}/resourceGroups/{self.group_name}"

    @property
    def watched(self) -> list[str]:
        """Ids of the watched subscriptions, as /subscriptions/ID."""
        named = _listed(self.parameters["watchedSubscriptionIds"].lower())
        return [f"/subscriptions/{one}" for one in named] or [self.subscription]

    @property
    def subscriptions(self) -> set[str]:
        """Ids of all subscriptions that the settings name, in lower case."""
        vaults = ("/".join(one.split("/")[:3]).lower() for one in self.vaults)
        return {self.subscription, *self.watched, *vaults}

    @property
    def pause_s(self) -> float:
        """Seconds between two looks at what is not there yet, or still there."""
        return float(self.environ.get("RELAY_POLL_SECONDS", "10"))

    @property
    def groups(self) -> list[str]:
        """Ids of the resource groups that the templates create: the app's, and one for a topic in
        each further watched subscription that has no topic yet."""
        further = [f"{one}/resourceGroups/{self.group_name}" for one in self.watched]
        topics = self.parameters["existingTopics"]
        return [
            self.group,
            *(
                group
                for one, group in zip(self.watched, further, strict=True)
                if one != self.subscription and one not in topics
            ),
        ]

    @property
    def vaults(self) -> list[str]:
        """Ids of the existing vaults that the settings name."""
        names = ("keyVaultId", "additionalVaultIds")
        return [one for name in names for one in _listed(self.parameters[name])]

    @property
    def has_alerts(self) -> bool:
        return str(self.parameters["alertsEnabled"]).lower() == "true"

    @property
    def secrets(self) -> list[str]:
        names = ("wandbSecretName", "additionalSecretNames")
        return [one for name in names for one in _listed(self.parameters[name])]

    def output(self, name: str) -> str:
        """Return an output of main.bicep. Raises Stop before anything was provisioned."""
        return self._value(name, "azd provision")

    def rights(self) -> Iterator[Json]:
        """Yield what the settings give on each vault and subscription: `rights` of the modules."""
        for name in ("VAULT_RIGHTS", "SUBSCRIPTION_RIGHTS"):
            yield from json.loads(self.output(name))

    def is_own(self, tags: Mapping[str, str] | None) -> bool:
        """Return whether a resource carries this environment's tag."""
        return (tags or {}).get("azd-env-name") == self.name

    def owns_group(self, arm: Arm, group: Json) -> bool:
        """Return whether a resource group is this deployment's: azd down deletes it as a whole."""
        if not self.is_own(group.get("tags")):
            return False
        # Another azd project may have an environment of the same name.
        return "wandb-finetune-relay" in group["tags"] or any(
            _OF_EARLIER.match(one["name"]) for one in arm.each(f"{group['id']}/resources")
        )

    def is_within(self, resource_id: str) -> bool:
        """Return whether a resource is in the app's own group."""
        return group_of(resource_id).lower() == self.group.lower()

    def identity(self, arm: Arm) -> tuple[str, str] | None:
        """Return the app's principal id and the token of all names; None where nothing is left.

        A deployment that failed halfway has no outputs, so its identity is looked for as well.
        """
        if self.environ.get("APP_IDENTITY_PRINCIPAL_ID"):
            return (
                self.output("APP_IDENTITY_PRINCIPAL_ID"),
                self.output("EVENT_SUBSCRIPTION_SUFFIX"),
            )
        kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
        if arm.find(self.group) is None:
            return None
        for found in arm.each(f"{self.group}/providers/{kind}"):
            if self.is_own(found.get("tags")):
                return found["properties"]["principalId"], found["name"].removeprefix("id-")
        return None

    def _value(self, name: str, remedy: str) -> str:
        value = self.environ.get(name, "")
        if not value:
            raise Stop(f"{name} is not set", remedy)
        return value

    def _filled(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(
            r"\$\{(\w+)(?:=([^}]*))?\}",
            lambda found: self.environ.get(found[1]) or found[2] or "",
            value,
        )


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
