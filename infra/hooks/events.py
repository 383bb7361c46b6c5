"""Connects Event Grid to the deployed functions.

Event subscriptions are made here and not in Bicep: Event Grid refuses an endpoint whose code is
not deployed. They are put one after another, since two at once on one topic conflict. A put of
what is there changes nothing; one that stays Failed is deleted and made anew.
"""

import time
from collections.abc import Mapping
from typing import Final

from arm import Arm, ArmError, Json, Stop
from deployment import Deployment

FUNCTIONS: Final = (
    "account_event",
    "vault_event",
    "relay_timer",
    "drift_timer",
    "reconcile_account",
    "relay_jobs",
    "backfill_jobs",
    "job_artifacts",
    "resync",
    "resync_status",
    "status",
    "dashboard",
    "health",
    "openapi",
    "audit",
)
"""Those of handlers/triggers.py."""
_ATTEMPTS: Final = 3
_POLLS: Final = 60
"""With a pause of ten seconds: ten minutes."""
_UNDER_WAY: Final = {"Creating", "Updating", "Deleting", "AwaitingManualAction"}
_FILTERS: Final[Mapping[str, Json]] = {
    "accounts": {
        "includedEventTypes": [
            "Microsoft.Resources.ResourceWriteSuccess",
            "Microsoft.Resources.ResourceDeleteSuccess",
        ],
        "advancedFilters": [
            {
                "operatorType": "StringIn",
                "key": "data.operationName",
                "values": [
                    "Microsoft.CognitiveServices/accounts/write",
                    "Microsoft.CognitiveServices/accounts/delete",
                    "Microsoft.Authorization/roleAssignments/delete",
                ],
            }
        ],
    },
    "secrets": {
        "includedEventTypes": [
            "Microsoft.KeyVault.SecretNewVersionCreated",
            "Microsoft.KeyVault.SecretNearExpiry",
            "Microsoft.KeyVault.SecretExpired",
        ],
        # Its values are the names of the secrets.
        "advancedFilters": [{"operatorType": "StringIn", "key": "subject"}],
    },
    "policies": {"includedEventTypes": ["Microsoft.KeyVault.VaultAccessPolicyChanged"]},
}


class Events:
    """The event subscriptions of a deployment, and the functions that they call."""

    def __init__(self, arm: Arm, deployment: Deployment) -> None:
        self._arm = arm
        self._app = deployment.output("FUNCTION_APP_ID")
        self._token = deployment.output("EVENT_SUBSCRIPTION_SUFFIX")
        self._secrets = deployment.output("WANDB_SECRET_NAMES").split()
        self._letters = {
            "resourceId": deployment.output("STORAGE_ACCOUNT_ID"),
            "blobContainerName": deployment.output("DEAD_LETTER_CONTAINER"),
        }
        self._wanted = [
            (topic, kind)
            for name, kinds in (
                ("ACCOUNT_TOPIC_IDS", ("accounts",)),
                ("VAULT_TOPIC_IDS", ("secrets", "policies")),
            )
            for topic in deployment.output(name).split()
            for kind in kinds
        ]
        self._pause_s = deployment.pause_s

    def check_functions(self) -> None:
        """Wait for all functions. Raises Stop with those that are missing or have an error."""
        missing = set(FUNCTIONS)
        for left in range(_POLLS, 0, -1):
            there = {one["id"].rpartition("/")[2] for one in self._functions()}
            missing = set(FUNCTIONS) - there
            if not missing or left == 1:
                break
            print(f"waiting for {', '.join(sorted(missing))}", flush=True)
            time.sleep(self._pause_s)
        errors = self._errors()
        if missing:
            errors.insert(0, f"not there: {', '.join(sorted(missing))}")
        if errors:
            raise Stop(
                "the functions of the app are not those of its code:\n  " + "\n  ".join(errors),
                "docs/troubleshooting.md, 'Functions are missing'",
            )

    def connect(self) -> None:
        """Put every event subscription. Raises Stop when one does not succeed."""
        for topic, kind in self._wanted:
            state = self._settled(self._path(topic, kind))
            print(f"event subscription {self._path(topic, kind)}: {state}", flush=True)
        for topic, kind in self._wanted:
            self._put(topic, kind)

    def _functions(self) -> list[Json]:
        try:
            return list(self._arm.each(f"{self._app}/functions"))
        except ArmError as error:
            # The app answers so while it starts.
            if error.status in (404, 503):
                return []
            raise

    def _errors(self) -> list[str]:
        """Return what the host says is wrong: with itself, and with each function."""
        admin = f"{self._app}/hostruntime/admin"
        paths = {"host": f"{admin}/host/status"}
        paths |= {name: f"{admin}/functions/{name}/status" for name in FUNCTIONS}
        found = []
        for name, path in paths.items():
            try:
                said = self._arm.get(path)
            except ArmError:
                # No answer says nothing about a function: the app may not let this call in.
                if name == "host":
                    return []
                continue
            found += [f"{name}: {one}" for one in said.get("errors") or ()]
        return found

    def _put(self, topic: str, kind: str) -> None:
        path = self._path(topic, kind)
        for attempt in range(1, _ATTEMPTS + 1):
            state = self._settled(path)
            if state in ("Failed", "Canceled"):
                print(f"{path} is {state}: making it anew", flush=True)
                self._arm.delete(path)
                self._settled(path)
            try:
                self._arm.put(path, {"properties": self._body(kind)})
                state = self._settled(path)
            except ArmError as error:
                state = f"refused: {error}"
            if state == "Succeeded":
                print(f"{path}: ready", flush=True)
                return
            print(f"{path}: attempt {attempt} of {_ATTEMPTS}: {state}", flush=True)
            time.sleep(self._pause_s)
        raise Stop(
            f"{path} is not ready after {_ATTEMPTS} attempts: {state}",
            "docs/troubleshooting.md, 'Events do not arrive'",
        )

    def _settled(self, path: str) -> str:
        """Return the state of an event subscription when nothing is under way: or `missing`."""
        state = "missing"
        for _ in range(_POLLS):
            found = self._arm.find(path)
            state = found["properties"]["provisioningState"] if found else "missing"
            if state not in _UNDER_WAY:
                break
            time.sleep(self._pause_s)
        return state

    def _path(self, topic: str, kind: str) -> str:
        return f"{topic}/eventSubscriptions/{kind}-{self._token}"

    def _body(self, kind: str) -> Json:
        function = "account_event" if kind == "accounts" else "vault_event"
        filters = _FILTERS[kind]
        if kind == "secrets":
            (subject,) = filters["advancedFilters"]
            filters = filters | {"advancedFilters": [subject | {"values": self._secrets}]}
        return {
            "destination": {
                "endpointType": "AzureFunction",
                "properties": {
                    "resourceId": f"{self._app}/functions/{function}",
                    "maxEventsPerBatch": 1,
                },
            },
            "eventDeliverySchema": "EventGridSchema",
            "filter": filters,
            "retryPolicy": {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440},
            "deadLetterWithResourceIdentity": {
                "identity": {"type": "SystemAssigned"},
                "deadLetterDestination": {
                    "endpointType": "StorageBlob",
                    "properties": self._letters,
                },
            },
            "labels": ["wandb-finetune-relay"],
        }
