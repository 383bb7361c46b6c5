"""Making, listing and deleting W&B keys over real HTTP, as the SDK does; and the row about it."""

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest

from finetune_wandb.clients.azure.vaults import KeyVault
from finetune_wandb.clients.storage.account_tables import MintTable
from finetune_wandb.clients.storage.service import Storage
from finetune_wandb.clients.transport import Transport
from finetune_wandb.clients.wandb.keys import SDK_AGENT, KeyMinter, KeyProver
from finetune_wandb.model.accounts.key import KeyMint
from finetune_wandb.model.errors import (
    AppError,
    ConflictError,
    DeniedError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.secret import Secret, SecretRef
from tests.clients.azure_stage import (
    KEY,
    OTHER_KEY,
    PLACE,
    SECRET,
    VAULT,
    fault,
    make_vault,
    put_secret,
    requests,
)
from tests.dev.sandbox.stage import Client
from tests.fakes import NOW

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
async def minter(sandbox: Client, transport: Transport) -> KeyMinter:
    body = {"key": KEY, "entity": "team-a", "username": "robot"}
    await sandbox.control("PUT", "wandb/keys", body)
    return KeyMinter(transport, sandbox.process.wandb_url, timeout_s=0.5)


async def test_new_key_is_the_owners_and_works(
    sandbox: Client, transport: Transport, minter: KeyMinter
) -> None:
    made = await minter.generate(Secret(KEY), "relay one")
    prover = KeyProver(transport, sandbox.process.wandb_url)
    assert (await prover.prove(made.value)).entity == "team-a"
    assert made.value != Secret(KEY)
    assert made.value.reveal() not in repr(made)


async def test_keys_are_listed_with_what_they_are_called(minter: KeyMinter) -> None:
    made = await minter.generate(Secret(KEY), "relay one")
    listed = await minter.list_keys(Secret(KEY))
    assert {item.id: item.description for item in listed}[made.id] == "relay one"
    assert len(listed) == 2


async def test_deleted_key_no_longer_works_and_may_be_deleted_again(
    sandbox: Client, transport: Transport, minter: KeyMinter
) -> None:
    made = await minter.generate(Secret(KEY), "relay one")
    for _ in range(2):
        await minter.delete(Secret(KEY), made.id)
    with pytest.raises(RejectedError):
        await KeyProver(transport, sandbox.process.wandb_url).prove(made.value)


async def test_denied_is_raised_when_the_key_is_another_users(
    sandbox: Client, minter: KeyMinter
) -> None:
    made = await minter.generate(Secret(KEY), "relay one")
    await sandbox.control("PUT", "wandb/keys", {"key": OTHER_KEY, "username": "somebody"})
    with pytest.raises(DeniedError):
        await minter.delete(Secret(OTHER_KEY), made.id)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ({"status": 401, "body": {"errors": [{"message": "relogin required"}]}}, DeniedError),
        ({"status": 403, "body": {}}, DeniedError),
        ({"status": 200, "body": {"errors": [{"message": "permission denied"}]}}, DeniedError),
        ({"status": 400, "body": {"errors": [{"message": "too many keys"}]}}, RejectedError),
        ({"status": 200, "body": {"data": {"result": None}}}, RejectedError),
        (
            {"status": 200, "body": {"data": {"result": {"apiKey": {"id": "i", "name": "ab…"}}}}},
            UnavailableError,
        ),
        ({"status": 429, "headers": {"Retry-After": "9"}}, ThrottledError),
        ({"status": 503}, UnavailableError),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}}, UnavailableError),
        ({"raw_body": "<html>"}, UnavailableError),
        ({"drop": "after"}, UnavailableError),
    ],
    ids=str,
)
async def test_key_is_asked_for_once_whatever_the_answer(
    sandbox: Client, minter: KeyMinter, action: dict[str, object], error: type[AppError]
) -> None:
    await fault(sandbox, "wandb", action, times=9)
    with pytest.raises(error):
        await minter.generate(Secret(KEY), "relay one")
    assert len(await requests(sandbox, "wandb")) == 1


def test_client_calls_itself_what_the_sdk_does() -> None:
    # W&B shows a user's keys to this name alone, so that it must be the pinned SDK's.
    assert SDK_AGENT.startswith(f"W&B Public Client {version('wandb')} ")


async def test_no_value_is_in_an_error_or_a_log(
    sandbox: Client, minter: KeyMinter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = await minter.generate(Secret(KEY), "relay one")
    await fault(sandbox, "wandb", {"drop": "before"}, times=9)
    with pytest.raises(UnavailableError) as caught:
        await minter.delete(Secret(KEY), made.id)
    text = caplog.text + repr(caught.value) + repr(caught.value.__context__)
    assert KEY not in text
    assert made.value.reveal() not in text


@pytest.fixture
async def vault(sandbox: Client, transport: Transport) -> KeyVault:
    await make_vault(sandbox)
    return KeyVault(transport)


async def test_new_version_is_stored_with_its_end_and_found_by_its_tag(
    sandbox: Client, vault: KeyVault
) -> None:
    await put_secret(sandbox, KEY)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=90)
    tags = {"wandb-key-name": "relay one", "wandb-key-id": "id-1"}
    number = await vault.write_version(PLACE, Secret(OTHER_KEY), expires=expires, tags=tags)
    newest = await vault.read_newest(PLACE)
    assert (newest.version, newest.value, newest.expires) == (number, Secret(OTHER_KEY), expires)
    assert newest.tags == tags
    await put_secret(sandbox, KEY)
    assert await vault.find_version(PLACE, "wandb-key-name", "relay one") == number
    assert await vault.find_version(PLACE, "wandb-key-name", "relay two") is None


@pytest.mark.parametrize("reason", ["ForbiddenByRbac", "AccessDenied"])
async def test_denied_is_raised_when_the_app_may_not_write(
    sandbox: Client, vault: KeyVault, reason: str
) -> None:
    await put_secret(sandbox, KEY)
    await sandbox.control("PUT", f"vaults/{VAULT.name}/access", {"deny": reason})
    with pytest.raises(DeniedError) as caught:
        await vault.write_version(PLACE, Secret(OTHER_KEY), expires=NOW, tags={})
    assert caught.value.code == reason
    assert OTHER_KEY not in str(caught.value)


MINT = KeyMint(
    secret=PLACE,
    state="switched",
    name="wandb-finetune-relay kv-main/wandb-api-key 1",
    key_id="QXBpS2V5OjE=",
    version="v2",
    old_version="v1",
    old_key_id="QXBpS2V5OjA=",
    began_at=NOW,
    switched_at=NOW + timedelta(seconds=3),
    claimed_until=NOW + timedelta(minutes=10),
    retry_at=None,
    cause="mint_waits",
    lost=("one", "two"),
)


async def test_row_comes_back_as_written_and_only_its_knower_may_replace_it(
    storage: Storage,
) -> None:
    table = MintTable(storage)
    idle = KeyMint(secret=PLACE)
    assert await table.read(PLACE) is None
    await table.write(None, idle)
    with pytest.raises(ConflictError):
        await table.write(None, idle)
    await table.write(idle, MINT)
    assert await table.read(SecretRef(VAULT, SECRET.upper())) == MINT
    assert await table.list_all() == [MINT]
    with pytest.raises(ConflictError):
        await table.write(idle, MINT)


@pytest.mark.parametrize(
    "data",
    [
        '{"viewer": []}',
        '{"viewer": {"apiKeys": 7}}',
        '{"viewer": {"apiKeys": {"edges": [null, 1, {"node": "x"}]}}}',
        '{"result": ["x"]}',
        '{"result": {"apiKey": "x"}}',
    ],
)
async def test_error_is_ours_whatever_is_answered(
    sandbox: Client, minter: KeyMinter, data: str
) -> None:
    await fault(sandbox, "wandb", {"raw_body": f'{{"data": {data}}}'})
    with contextlib.suppress(AppError):
        assert await minter.list_keys(Secret(KEY)) == ()
    with pytest.raises(AppError):
        await minter.generate(Secret(KEY), "relay one")
