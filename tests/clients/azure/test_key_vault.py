"""Secrets over real HTTP: newest, a given version, and the reasons of a refusal."""

from datetime import UTC, datetime

import pytest

from finetune_wandb.clients.azure.vaults import KeyVault
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import DeniedError, MissingError, UnavailableError
from finetune_wandb.model.secret import Secret
from tests.clients.azure_stage import (
    KEY,
    OTHER_KEY,
    PLACE,
    VAULT,
    fault,
    make_vault,
    put_secret,
)
from tests.dev.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
async def vault(sandbox: Client, transport: Transport) -> KeyVault:
    await make_vault(sandbox)
    return KeyVault(transport)


async def test_newest_version_is_read_with_its_dates(sandbox: Client, vault: KeyVault) -> None:
    await put_secret(sandbox, OTHER_KEY)
    number = await put_secret(
        sandbox, KEY, expires="2027-01-01T00:00:00Z", not_before="2026-01-01T00:00:00Z"
    )
    found = await vault.read_newest(PLACE)
    assert (found.version, found.enabled) == (number, True)
    assert found.expires == datetime(2027, 1, 1, tzinfo=UTC)
    assert found.not_before == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.value == Secret(KEY)
    assert KEY not in repr(found)


async def test_older_version_is_read_when_named(sandbox: Client, vault: KeyVault) -> None:
    number = await put_secret(sandbox, OTHER_KEY)
    await put_secret(sandbox, KEY)
    assert (await vault.read_version(PLACE, number)).value == Secret(OTHER_KEY)


async def test_line_break_at_the_end_is_no_part_of_the_key(
    sandbox: Client, vault: KeyVault
) -> None:
    await put_secret(sandbox, f" {KEY}\n")
    assert (await vault.read_newest(PLACE)).value == Secret(KEY)


async def test_missing_is_raised_when_there_is_no_secret(vault: KeyVault) -> None:
    with pytest.raises(MissingError):
        await vault.read_newest(PLACE)


async def test_reason_is_told_when_the_newest_version_is_disabled(
    sandbox: Client, vault: KeyVault
) -> None:
    await put_secret(sandbox, enabled=False)
    with pytest.raises(DeniedError) as caught:
        await vault.read_newest(PLACE)
    assert caught.value.code == "SecretDisabled"


@pytest.mark.parametrize(
    "reason", ["ForbiddenByRbac", "AccessDenied", "ForbiddenByFirewall", "ForbiddenByConnection"]
)
async def test_reason_is_told_when_the_vault_refuses(
    sandbox: Client, vault: KeyVault, reason: str
) -> None:
    await put_secret(sandbox)
    await sandbox.control("PUT", f"vaults/{VAULT.name}/access", {"deny": reason})
    with pytest.raises(DeniedError) as caught:
        await vault.read_newest(PLACE)
    assert caught.value.code == reason
    assert KEY not in str(caught.value)


async def test_unavailable_is_raised_when_the_vault_does_not_answer(
    sandbox: Client, vault: KeyVault
) -> None:
    await put_secret(sandbox)
    await fault(sandbox, "vault", {"drop": "before"}, times=50)
    with pytest.raises(UnavailableError):
        await vault.read_newest(PLACE)
