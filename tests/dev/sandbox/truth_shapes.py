"""What the real services answer to what the product asks: statuses, headers, fields, types.

Restated from the public contracts, not read off the sandbox:

- Resource Manager: the REST specifications of Microsoft.CognitiveServices (accounts),
  Microsoft.KeyVault (vaults) and Microsoft.Authorization (role assignments) in
  github.com/Azure/azure-rest-api-specs.
- Key Vault's data plane: learn.microsoft.com/rest/api/keyvault/secrets/get-secret.
- Fine-tuning: specification/ai/data-plane/OpenAI.v1 in the same repository, and the job, event
  and checkpoint objects that Microsoft's tutorial prints
  (learn.microsoft.com/azure/ai-foundry/openai/tutorials/fine-tune).
- W&B: the requests of the wandb SDK 0.31.0 (github.com/wandb/wandb, core/pkg and core/api).

A shape is closed: a field that is not listed is one that the service does not have.
"""

import re
from dataclasses import dataclass, field
from typing import Any

Shape = Any
"""A type, a tuple of types or allowed texts, a list of one shape, a dict of shapes (`name?` for a
field that may be absent), a compiled pattern, or `ANY`."""
ANY = object()
NUMBER = (int, float)
TEXT_OR_NULL = (str, type(None))
WHOLE_OR_NULL = (int, type(None))
GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|\+00:00)$")
URL = re.compile(r"^https://[a-z0-9.-]+/$")


def ids(prefix: str) -> re.Pattern[str]:
    return re.compile(rf"^{prefix}[-_]?\S+$")


ACCOUNT: Shape = {
    "id": re.compile(
        r"^/subscriptions/[^/]+/resourceGroups/[^/]+"
        r"/providers/Microsoft\.CognitiveServices/accounts/[^/]+$"
    ),
    "name": str,
    "type": ("Microsoft.CognitiveServices/accounts",),
    "etag?": str,
    "location": str,
    "kind": ("OpenAI", "AIServices"),
    "sku": {"name": str},
    "tags?": dict,
    "systemData?": dict,
    "identity?": {
        "type": ("None", "SystemAssigned", "UserAssigned", "SystemAssigned, UserAssigned"),
        "principalId?": (GUID, type(None)),
        "tenantId?": (GUID, type(None)),
        "userAssignedIdentities?": dict,
    },
    "properties": {
        "endpoint": URL,
        "endpoints?": dict,
        "internalId?": str,
        "dateCreated?": TIME,
        "isMigrated?": bool,
        "publicNetworkAccess?": ("Enabled", "Disabled"),
        "privateEndpointConnections?": list,
        "capabilities?": [{"name": str, "value?": str}],
        "callRateLimit?": dict,
        "disableLocalAuth?": bool,
        "customSubDomainName?": str,
        "networkAcls?": dict,
        "allowProjectManagement?": bool,
        "provisioningState": (
            *("Accepted", "Creating", "Deleting", "Moving", "Failed", "Succeeded"),
            *("ResolvingDNS", "Canceled"),
        ),
    },
}
VAULT: Shape = {
    "id": re.compile(r"^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.KeyVault/"),
    "name": str,
    "type": ("Microsoft.KeyVault/vaults",),
    "location": str,
    "tags?": dict,
    "systemData?": dict,
    "properties": {
        "sku": {"family": ("A",), "name": ("standard", "premium")},
        "tenantId": GUID,
        "accessPolicies?": list,
        "enabledForDeployment?": bool,
        "enabledForDiskEncryption?": bool,
        "enabledForTemplateDeployment?": bool,
        "enableSoftDelete?": bool,
        "softDeleteRetentionInDays?": int,
        "enableRbacAuthorization?": (bool, type(None)),
        "enablePurgeProtection?": bool,
        "vaultUri": URL,
        "provisioningState?": ("Succeeded", "RegisteringDns"),
        "publicNetworkAccess?": str,
        "networkAcls?": dict,
    },
}
ASSIGNMENT: Shape = {
    "id": re.compile(r"/providers/Microsoft\.Authorization/roleAssignments/"),
    "name": GUID,
    "type": ("Microsoft.Authorization/roleAssignments",),
    "properties": {
        "roleDefinitionId": re.compile(r"/roleDefinitions/[0-9a-f-]{36}$"),
        "principalId": GUID,
        "principalType": ("User", "Group", "ServicePrincipal", "ForeignGroup", "Device"),
        "scope": str,
        "condition?": TEXT_OR_NULL,
        "conditionVersion?": TEXT_OR_NULL,
        "description?": TEXT_OR_NULL,
        "delegatedManagedIdentityResourceId?": TEXT_OR_NULL,
        "createdOn": TIME,
        "updatedOn": TIME,
        "createdBy": TEXT_OR_NULL,
        "updatedBy": TEXT_OR_NULL,
    },
}
SECRET: Shape = {
    "value": str,
    "id": re.compile(r"^https://[a-z0-9-]+\.vault\.azure\.net/secrets/[\w-]+/[0-9a-f]{32}$"),
    "contentType?": str,
    "tags?": dict,
    "attributes": {
        "enabled": bool,
        "nbf?": int,
        "exp?": int,
        "created": int,
        "updated": int,
        "recoveryLevel": str,
        "recoverableDays?": int,
    },
}
VAULT_ERROR: Shape = {"error": {"code": str, "message": str, "innererror?": {"code": str}}}
HYPERPARAMETERS: Shape = dict
JOB: Shape = {
    "id": ids("ft"),
    "object": ("fine_tuning.job",),
    "created_at": int,
    "finished_at?": WHOLE_OR_NULL,
    "estimated_finish?": WHOLE_OR_NULL,
    "status": (
        *("created", "pending", "queued", "validating_files", "notRunning", "running"),
        *("pausing", "paused", "resuming", "cancelling", "succeeded", "failed", "cancelled"),
    ),
    "model": str,
    "fine_tuned_model?": TEXT_OR_NULL,
    "hyperparameters?": (dict, type(None)),
    "method?": {
        "type": ("supervised", "dpo", "reinforcement"),
        "supervised?": dict,
        "dpo?": dict,
        "reinforcement?": dict,
    },
    "training_file": ids("file"),
    "validation_file?": TEXT_OR_NULL,
    "result_files?": ([str], type(None)),
    "trained_tokens?": WHOLE_OR_NULL,
    "seed?": WHOLE_OR_NULL,
    "suffix?": TEXT_OR_NULL,
    "user_provided_suffix?": TEXT_OR_NULL,
    "error?": (dict, type(None)),
    "integrations?": (list, type(None)),
    "metadata?": (dict, type(None)),
    "organization_id?": TEXT_OR_NULL,
    "trainingType?": TEXT_OR_NULL,
}
EVENT: Shape = {
    "id": ids("ftevent"),
    "object": ("fine_tuning.job.event",),
    "created_at": int,
    "level": ("info", "warn", "error"),
    "message": str,
    "type": ("message", "metrics"),
    "data?": (dict, type(None)),
}
CHECKPOINT: Shape = {
    "id": ids("ftc"),
    "object": ("fine_tuning.job.checkpoint",),
    "created_at": int,
    "fine_tuned_model_checkpoint": str,
    "fine_tuning_job_id": ids("ft"),
    "step_number": int,
    "metrics": dict,
}


def listing(item: Shape) -> Shape:
    return {
        "object": ("list",),
        "data": [item],
        "has_more": bool,
        "first_id?": TEXT_OR_NULL,
        "last_id?": TEXT_OR_NULL,
    }


@dataclass(frozen=True)
class Contract:
    """What one request is answered. `headers` must be there; `optional`: need not occur here."""

    service: str
    method: str
    path: str
    shapes: dict[int, Shape]
    headers: dict[int, tuple[str, ...]] = field(default_factory=dict)
    optional: bool = False


_ACCOUNT = (
    "/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.CognitiveServices/accounts/[^/]+"
)
_GRAPHQL = {
    "Viewer": {"viewer": {"id": str, "entity": str, "teams?": {"edges": list}}},
    "UpsertBucket": {
        "upsertBucket": {
            "bucket": {
                "id": str,
                "name": str,
                "project": {"name": str, "entity": {"name": str}},
            },
            "inserted": bool,
        }
    },
    "RelayedRun": {
        "model": (
            {
                "bucket": (
                    {
                        "state": str,
                        "historyLineCount": int,
                        "logLineCount": int,
                        "summaryMetrics": (str, type(None)),
                        "config": (str, type(None)),
                        "tags": (list, type(None)),
                    },
                    type(None),
                )
            },
            type(None),
        )
    },
    "IsProjectReadOnly": {"project": ({"readOnly": (bool, type(None))}, type(None))},
    "ProjectsReadOnly": {"models": {"edges": [{"node": {"readOnly": (bool, type(None))}}]}},
    "NotifyScriptableRunAlert": {"notifyScriptableRunAlert": {"success": bool}},
}
CONTRACTS: list[Contract] = [
    Contract("arm", "GET", _ACCOUNT, {200: ACCOUNT}),
    Contract(
        *("arm", "PATCH", _ACCOUNT),
        {200: ACCOUNT, 202: (ACCOUNT, type(None))},
        {202: ("Location", "Retry-After")},
    ),
    Contract(
        *("arm", "GET", r"/subscriptions/[^/]+/providers/Microsoft.CognitiveServices/accounts"),
        {200: {"value": [ACCOUNT], "nextLink?": str}},
    ),
    Contract(
        *("arm", "GET", r"/subscriptions/[^/]+/providers/Microsoft.KeyVault/vaults"),
        {200: {"value": [VAULT], "nextLink?": str}},
    ),
    Contract(
        "arm",
        "GET",
        r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.KeyVault/vaults/[^/]+",
        {200: VAULT},
        optional=True,
    ),
    Contract(
        *("arm", "GET", r".*/providers/Microsoft.Authorization/roleAssignments"),
        {200: {"value": [ASSIGNMENT], "nextLink?": str}},
    ),
    Contract(
        *("arm", "PUT", r".*/providers/Microsoft.Authorization/roleAssignments/[^/]+"),
        {200: ASSIGNMENT, 201: ASSIGNMENT},
    ),
    Contract(
        *("vault", "GET", r"/secrets/[\w-]+/[0-9a-f]*"),
        {200: SECRET, 401: VAULT_ERROR},
        {401: ("WWW-Authenticate",)},
    ),
    Contract("openai", "GET", "/openai/v1/fine_tuning/jobs", {200: listing(JOB)}),
    Contract("openai", "GET", "/openai/v1/fine_tuning/jobs/[^/]+", {200: JOB}, optional=True),
    Contract("openai", "GET", "/openai/v1/fine_tuning/jobs/[^/]+/events", {200: listing(EVENT)}),
    Contract(
        *("openai", "GET", "/openai/v1/fine_tuning/jobs/[^/]+/checkpoints"),
        {200: listing(CHECKPOINT)},
    ),
    Contract("openai", "GET", "/openai/v1/files/[^/]+/content", {200: str}),
    Contract(
        *("wandb", "POST", "/files/[^/]+/[^/]+/[^/]+/file_stream"),
        {200: {"exitcode": WHOLE_OR_NULL, "limits": dict, "stopped": bool}},
    ),
    *(
        Contract("wandb", "POST", f"/graphql {name}", {200: {"data": shape}}, optional=optional)
        for name, shape, optional in (
            (name, shape, name in ("NotifyScriptableRunAlert", "IsProjectReadOnly"))
            for name, shape in _GRAPHQL.items()
        )
    ),
]


def misfits(value: Any, shape: Shape, place: str = "$") -> list[str]:
    """Return what of a value is not as the shape says, in words."""
    if shape is ANY:
        return []
    if isinstance(shape, dict):
        return _object_misfits(value, shape, place)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{place} is no list"]
        return [
            text
            for number, item in enumerate(value)
            for text in misfits(item, shape[0], f"{place}[{number}]")
        ]
    if isinstance(shape, tuple):
        if any(not misfits(value, one, place) for one in shape):
            return []
        return [f"{place} is {value!r:.80}"]
    if isinstance(shape, re.Pattern):
        fits = isinstance(value, str) and bool(shape.search(value))
    elif isinstance(shape, type):
        # A truth value is an int to Python and never to JSON.
        fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    else:
        fits = value == shape
    return [] if fits else [f"{place} is {value!r:.80}"]


def _object_misfits(value: Any, shape: dict[str, Shape], place: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{place} is no object"]
    known = {name.removesuffix("?"): inner for name, inner in shape.items()}
    found = [f"{place}.{name} does not exist there" for name in value if name not in known]
    found += [
        f"{place}.{name} is missing"
        for name in shape
        if not name.endswith("?") and name not in value
    ]
    for name, inner in known.items():
        if name in value:
            found += misfits(value[name], inner, f"{place}.{name}")
    return found
