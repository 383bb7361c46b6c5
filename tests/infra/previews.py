"""What the compiler predicts that the templates create, for every set-up that changes a right.

The templates are compiled once and previewed for each set-up (1.5 s each), two at a time. What a
preview said is kept for later runs with the same templates.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from tests.infra.bicep import FILES, INFRA, ROOT

_NAMED = os.environ.get("BICEP") or "bicep"
COMPILER = shutil.which(ROOT / _NAMED) or shutil.which(_NAMED)
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
FURTHER = "/subscriptions/00000000-0000-0000-0000-000000000002"
TENANT = "10000000-0000-4000-8000-000000000001"
LOCATION = "swedencentral"
NAME = "env"
GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-{NAME}"
VAULT = f"{SUBSCRIPTION}/resourceGroups/rg-team/providers/Microsoft.KeyVault/vaults/kv-team"
VAULT_B = f"{FURTHER}/resourceGroups/rg-other/providers/Microsoft.KeyVault/vaults/kv-other"
_TOPICS = "providers/Microsoft.EventGrid/systemTopics"
EXISTING_TOPICS = {
    SUBSCRIPTION: f"{SUBSCRIPTION}/resourceGroups/rg-events/{_TOPICS}/theirs",
    VAULT.lower(): f"{SUBSCRIPTION}/resourceGroups/rg-team/{_TOPICS}/theirs-kv",
}
_NAMESPACE = UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")

SETUPS: dict[str, dict[str, Any]] = {
    "default": {},
    "observe": {"applyMode": "observe"},
    "mint": {"rotation": "mint"},
    "cancel": {"onWandbStop": "cancel"},
    "data-access": {"roleAssignmentRight": "dataAccessAdministrator"},
    "existing-vault": {"keyVaultId": VAULT},
    "policies": {"keyVaultId": VAULT, "vaultPermissionModel": "accessPolicies"},
    "policies-mint": {
        "keyVaultId": VAULT,
        "vaultPermissionModel": "accessPolicies",
        "rotation": "mint",
    },
    "two-vaults": {
        "keyVaultId": VAULT,
        "additionalVaultIds": VAULT_B,
        "watchedSubscriptionIds": f"{SUBSCRIPTION[15:]},{FURTHER[15:]}",
    },
    "existing-topics": {"keyVaultId": VAULT, "existingTopics": EXISTING_TOPICS},
    "private": {"privateNetworking": True},
    "private-existing-vault": {"privateNetworking": True, "keyVaultId": VAULT},
    "no-alerts": {"alertsEnabled": False},
    "notices": {"noticesTopicEnabled": True},
}


class Preview:
    """The predicted resources, each with its id and name worked out, and the outputs."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.diagnostics: list[Any] = snapshot["diagnostics"]
        self.resources: list[dict[str, Any]] = [
            _known(one) for one in snapshot["predictedResources"]
        ]
        self.outputs: dict[str, Any] = _known(snapshot["outputs"])

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.resources if one["type"].lower() == kind.lower()]

    @property
    def assignments(self) -> list[dict[str, Any]]:
        return self.of_type("Microsoft.Authorization/roleAssignments")


def previews(folder: Path, names: list[str]) -> dict[str, Preview]:
    """Preview the set-ups, from templates compiled into the folder."""
    sources = b"".join(path.read_bytes() for path in (*FILES, *sorted(INFRA.glob("*.json"))))
    folder = folder / hashlib.sha256(sources + str(COMPILER).encode()).hexdigest()
    folder.mkdir(exist_ok=True)
    template = folder / "main.json"
    if not template.exists():
        _compile("build", "--outfile", str(template), str(INFRA / "main.bicep"))

    def one(name: str) -> Preview:
        given = {"environmentName": NAME, "location": LOCATION} | SETUPS[name]
        lines = [f"param {key} = {_bicep(value)}" for key, value in given.items()]
        text = "\n".join(["using './main.json'", *lines])
        file = folder / f"{name}.bicepparam"
        said = file.with_suffix(".snapshot.json")
        if not said.exists() or file.read_text() != text:
            file.write_text(text)
            place = ("--subscription-id", SUBSCRIPTION[15:], "--tenant-id", TENANT)
            place += ("--location", LOCATION, "--deployment-name", NAME)
            _compile("snapshot", str(file), *place)
        return Preview(json.loads(said.read_text()))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def scope_of(assignment: dict[str, Any]) -> str:
    """Return what a role is given on."""
    return str(assignment["id"]).partition("/providers/Microsoft.Authorization/")[0]


def guid(text: str) -> str:
    """Return what the template function guid() makes of its joined parts."""
    return str(uuid5(_NAMESPACE, text))


def principal_of(resource_id: str) -> str:
    """Return the principal that the sandbox gives to a user-assigned identity."""
    return str(uuid5(NAMESPACE_URL, f"{resource_id.lower()}/principal"))


def _compile(*arguments: str) -> None:
    assert COMPILER
    done = subprocess.run([COMPILER, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _bicep(value: Any) -> str:
    if isinstance(value, dict):
        return "{\n" + "".join(f"  '{key}': '{one}'\n" for key, one in value.items()) + "}"
    return json.dumps(value) if isinstance(value, bool) else f"'{value}'"


def _known(value: Any) -> Any:
    """Work out template expressions, whose calls are written as Python writes them."""
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    if isinstance(value, str) and re.match(r"\[[a-z]\w*\(", value, re.I):
        try:
            return eval(value[1:-1], {"__builtins__": {}}, _FUNCTIONS)
        except (NameError, SyntaxError, AttributeError):
            return value
    return value


_FUNCTIONS = {
    "guid": lambda *parts: guid("-".join(parts)),
    "extensionResourceId": lambda scope, kind, name: f"{scope}/providers/{kind}/{name}",
    "subscriptionResourceId": lambda s, kind, name: f"/subscriptions/{s}/providers/{kind}/{name}",
    "createArray": lambda *items: list(items),
    "createObject": lambda *items: dict(zip(items[::2], items[1::2], strict=True)),
    "format": lambda text, *values: text.format(*values),
    "replace": lambda text, old, new: text.replace(old, new),
    "environment": lambda: SimpleNamespace(
        suffixes=SimpleNamespace(storage="core.windows.net", keyvaultDns=".vault.azure.net")
    ),
    "null": lambda: None,
    "tryGet": lambda value, name: getattr(value, name, None),
    "coalesce": lambda *values: next(one for one in values if one is not None),
    "reference": lambda resource_id, *_: SimpleNamespace(
        principalId=principal_of(resource_id),
        identity=SimpleNamespace(principalId=principal_of(resource_id)),
        defaultHostname="app.example",
    ),
}
