"""A subscription's tenant follows the first vault that names one."""

from tests.dev.sandbox.stage import SUBSCRIPTION, Client, account_body, account_path

OWN = "20000000-0000-4000-8000-000000000002"
OTHER = "30000000-0000-4000-8000-000000000003"


def _vault(name: str) -> str:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-one"
    return f"{group}/providers/Microsoft.KeyVault/vaults/{name}"


def _body(tenant: str) -> dict[str, object]:
    sku = {"family": "A", "name": "standard"}
    return {"location": "swedencentral", "properties": {"tenantId": tenant, "sku": sku}}


async def test_identity_moves_into_the_tenant_when_the_first_vault_names_it(
    sandbox: Client,
) -> None:
    path = account_path("alpha")
    body = account_body("alpha", identity={"type": "SystemAssigned"})
    await sandbox.call("PUT", path, body)
    await sandbox.call("PUT", _vault("kv-first"), _body(OWN))
    _, account, _ = await sandbox.call("GET", path)
    assert account["identity"]["tenantId"] == OWN


async def test_identity_stays_in_its_tenant_when_a_later_vault_names_another(
    sandbox: Client,
) -> None:
    await sandbox.call("PUT", _vault("kv-first"), _body(OWN))
    await sandbox.call("PUT", _vault("kv-second"), _body(OTHER))
    body = account_body("alpha", identity={"type": "SystemAssigned"})
    _, account, _ = await sandbox.call("PUT", account_path("alpha"), body)
    assert account["identity"]["tenantId"] == OWN
    _, vault, _ = await sandbox.call("GET", _vault("kv-second"))
    assert vault["properties"]["tenantId"] == OTHER
