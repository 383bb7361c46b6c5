"""Answers with status 200 that are JSON of another kind: a proxy's, never taken for the service's.

Found by chaos (seed 5106): such an answer was kept as a version's value, and W&B refused it for as
long as the process lived.
"""

import contextlib
from typing import Any

import pytest

from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.azure.vaults import KeyVault, Roles, VaultResources
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import AppError, UnavailableError
from finetune_wandb.model.secret import Secret
from tests.clients.azure_stage import (
    ALPHA,
    KEY,
    PLACE,
    VAULT,
    fault,
    make_account,
    make_vault,
    put_secret,
)
from tests.dev.sandbox.stage import SUBSCRIPTION, Client

pytestmark = pytest.mark.sandbox_only

WRONG = {"raw_body": '{"unexpected": [null, 1]}'}


async def test_no_value_is_given_when_the_vault_answers_something_else(
    sandbox: Client, transport: Transport
) -> None:
    await make_vault(sandbox)
    version = await put_secret(sandbox, KEY)
    vault = KeyVault(transport)
    assert (await vault.read_newest(PLACE)).value == Secret(KEY)
    for read in (
        lambda: vault.read_newest(PLACE),
        lambda: vault.read_version(PLACE, version),
    ):
        await fault(sandbox, "vault", WRONG, times=1)
        with pytest.raises(UnavailableError):
            await read()
        assert (await read()).value == Secret(KEY)


async def test_account_is_unknown_when_resource_manager_answers_something_else(
    sandbox: Client, transport: Transport
) -> None:
    await make_account(sandbox, tags={"team": "ml"})
    accounts = Accounts(transport)
    await fault(sandbox, "arm", WRONG, times=1, method="GET")
    with pytest.raises(UnavailableError):
        await accounts.read(ALPHA)
    assert (await accounts.read(ALPHA)).tags == {"team": "ml"}


async def test_vault_is_unknown_when_resource_manager_answers_something_else(
    sandbox: Client, transport: Transport
) -> None:
    await make_vault(sandbox)
    vaults = VaultResources(transport, (SUBSCRIPTION,))
    await vaults.find(VAULT)
    await fault(sandbox, "arm", WRONG, times=1, path_contains="/vaults/")
    with pytest.raises(UnavailableError):
        await vaults.find(VAULT)
    assert (await vaults.find(VAULT)).address == VAULT


VAULT_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv-main"
)


def _vaults(transport: Transport) -> VaultResources:
    return VaultResources(transport, (SUBSCRIPTION,))


ODD = [
    "[]",
    "null",
    '"text"',
    '{"value": null}',
    '{"value": [null]}',
    '{"id": "x", "properties": []}',
    '{"id": "x", "kind": "OpenAI", "properties": {"endpoints": 1}, "tags": 7}',
    '{"id": "x", "properties": {"accessPolicies": [{"objectId": null}]}}',
]


@pytest.mark.parametrize("body", ODD)
@pytest.mark.parametrize(
    ("service", "made", "call"),
    [
        ("arm", Accounts, lambda accounts: accounts.read(ALPHA)),
        ("arm", _vaults, lambda vaults: vaults.find(VAULT)),
        ("arm", Roles, lambda roles: roles.list_for_scope(VAULT_ID)),
        ("vault", KeyVault, lambda vault: vault.read_newest(PLACE)),
    ],
    ids=["account", "vault", "roles", "secret"],
)
async def test_error_is_ours_whatever_is_answered(
    sandbox: Client, transport: Transport, service: str, made: Any, call: Any, body: str
) -> None:
    await fault(sandbox, service, {"raw_body": body})
    with contextlib.suppress(AppError):
        await call(made(transport))


async def test_tag_without_a_value_is_empty(sandbox: Client, transport: Transport) -> None:
    await make_account(sandbox)
    accounts = Accounts(transport)
    body = '{"id": "x", "kind": "OpenAI", "properties": {}, "tags": {"wandb-project": null}}'
    await fault(sandbox, "arm", {"raw_body": body}, times=1, method="GET")
    assert (await accounts.read(ALPHA)).tag("wandb-project") == ""
