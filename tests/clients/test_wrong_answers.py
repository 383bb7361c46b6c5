"""Answers with status 200 that are JSON of another kind: a proxy's, never taken for the service's.

Found by chaos (seed 5106): such an answer was kept as a version's value, and W&B refused it for as
long as the process lived.
"""

import pytest

from clients.accounts import Accounts
from clients.key_vault import KeyVault
from clients.transport import Transport
from clients.vault_resources import VaultResources
from model.errors import UnavailableError
from model.secret import Secret
from tests.clients.azure_stage import (
    ALPHA,
    KEY,
    SECRET,
    VAULT,
    fault,
    make_account,
    make_vault,
    put_secret,
)
from tests.sandbox.stage import SUBSCRIPTION, Client

pytestmark = pytest.mark.sandbox_only

WRONG = {"raw_body": '{"unexpected": [null, 1]}'}


async def test_no_value_is_given_when_the_vault_answers_something_else(
    sandbox: Client, transport: Transport
) -> None:
    await make_vault(sandbox)
    version = await put_secret(sandbox, KEY)
    vault = KeyVault(transport)
    assert (await vault.read_newest(VAULT, SECRET)).value == Secret(KEY)
    for read in (
        lambda: vault.read_newest(VAULT, SECRET),
        lambda: vault.read_version(VAULT, SECRET, version),
    ):
        await fault(sandbox, "vault", WRONG, times=1)
        with pytest.raises(UnavailableError):
            await read()
        assert (await read()).value == Secret(KEY)
    await vault.close()


async def test_account_is_unknown_when_resource_manager_answers_something_else(
    sandbox: Client, transport: Transport
) -> None:
    await make_account(sandbox, tags={"team": "ml"})
    accounts = Accounts(transport)
    await fault(sandbox, "arm", WRONG, times=1, method="GET")
    with pytest.raises(UnavailableError):
        await accounts.read(ALPHA)
    assert (await accounts.read(ALPHA)).tags == {"team": "ml"}
    await accounts.close()


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
    await vaults.close()
