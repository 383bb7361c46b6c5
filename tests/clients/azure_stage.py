"""Sets the sandbox's stage for the clients' tests, through its plain HTTP paths."""

from typing import Any

from finetune_wandb.model.ids import AccountId, VaultAddress, parse_vault_url
from finetune_wandb.model.secret import SecretRef
from tests.dev.sandbox.stage import (
    GROUP,
    SUBSCRIPTION,
    Client,
    account_body,
    account_path,
    vault_path,
)

VAULT = parse_vault_url("https://kv-main.vault.azure.net")
SECRET = "wandb-api-key"
PLACE = SecretRef(VAULT, SECRET)
TENANT = "22222222-2222-4222-8222-222222222222"
USER_IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/build"
)
ALPHA = AccountId(SUBSCRIPTION, GROUP, "alpha")
KEY = "wandb_v1_" + "k" * 60
OTHER_KEY = "wandb_v1_" + "o" * 60


async def make_account(sandbox: Client, name: str = "alpha", **more: Any) -> None:
    path = f"{account_path(name)}?api-version=2025-09-01"
    status, answer, _ = await sandbox.call("PUT", path, account_body(name, **more))
    assert status in (200, 201), answer


async def make_vault(sandbox: Client, name: str = "kv-main", **properties: Any) -> str:
    """Make a vault in RBAC mode unless told otherwise, and return its id."""
    body = {
        "location": "swedencentral",
        "properties": {
            "sku": {"family": "A", "name": "standard"},
            "tenantId": TENANT,
            "accessPolicies": [],
            "enableRbacAuthorization": True,
        }
        | properties,
    }
    path = f"{vault_path(name)}?api-version=2026-05-15"
    status, answer, _ = await sandbox.call("PUT", path, body)
    assert status in (200, 201, 202), answer
    return vault_path(name)


async def put_secret(
    sandbox: Client, value: str = KEY, vault: VaultAddress = VAULT, **more: Any
) -> str:
    """Store a new version and return its number."""
    answer = await sandbox.control(
        "PUT", f"vaults/{vault.name}/secrets/{SECRET}", {"value": value, **more}
    )
    return str(answer["version"])


async def requests(sandbox: Client, service: str = "arm") -> list[tuple[str, str, int]]:
    """Return (method, last part of the path, status) of what a service was asked, sorted."""
    asked = await sandbox.control("GET", "requests")
    return sorted(
        (item["method"], item["path"].rpartition("/")[2].lower(), item["status"])
        for item in asked
        if item["service"] == service
        for _ in range(item["count"])
    )


async def forget_requests(sandbox: Client) -> None:
    status, _, _ = await sandbox.call("DELETE", "/_sandbox/requests")
    assert status in (200, 204)


async def fault(sandbox: Client, service: str, action: dict[str, Any], **more: Any) -> None:
    await sandbox.control("POST", "faults", {"service": service, "action": action} | more)
