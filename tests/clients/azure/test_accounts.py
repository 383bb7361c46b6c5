"""Accounts over real HTTP: what is read, that writes keep what is there, how waits end."""

import pytest

from finetune_wandb.clients.azure.accounts import Accounts
from finetune_wandb.clients.transport import Transport
from finetune_wandb.model.errors import (
    ConflictError,
    MissingError,
    NotReadyError,
    RejectedError,
    ThrottledError,
    UnavailableError,
)
from finetune_wandb.model.ids import AccountId
from tests.clients.azure_stage import (
    ALPHA,
    USER_IDENTITY,
    fault,
    forget_requests,
    make_account,
    requests,
)
from tests.dev.sandbox.stage import SUBSCRIPTION, Client

pytestmark = pytest.mark.sandbox_only


@pytest.fixture
async def accounts(transport: Transport) -> Accounts:
    return Accounts(transport, wait_s=2.0)


async def test_account_is_read_in_full(sandbox: Client, accounts: Accounts) -> None:
    await make_account(sandbox, tags={"team": "ml"})
    found = await accounts.read(ALPHA)
    assert (found.kind, found.region, found.tags) == ("OpenAI", "swedencentral", {"team": "ml"})
    assert found.endpoint == "https://alpha.openai.azure.com"
    assert found.custom_subdomain == "alpha"
    assert found.settled
    assert not found.system_identity
    assert found.principal_id == ""


async def test_openai_endpoint_is_found_when_the_account_is_of_foundry(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox, kind="AIServices")
    assert (await accounts.read(ALPHA)).endpoint == "https://alpha.openai.azure.com"


async def test_missing_is_raised_when_there_is_no_account(accounts: Accounts) -> None:
    with pytest.raises(MissingError):
        await accounts.read(ALPHA)


async def test_identity_is_on_and_user_identities_stay_when_switched_on(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(
        sandbox,
        identity={"type": "UserAssigned", "userAssignedIdentities": {USER_IDENTITY: {}}},
        tags={"team": "ml"},
    )
    before = await accounts.read(ALPHA)
    assert before.user_identities == (USER_IDENTITY,)
    changed = await accounts.update_identity(before, {})
    assert changed.system_identity
    assert changed.principal_id
    assert changed.tenant_id
    assert changed.user_identities == (USER_IDENTITY,)
    assert changed.tags == {"team": "ml"}
    assert await accounts.read(ALPHA) == changed


async def test_tags_are_merged_when_written(sandbox: Client, accounts: Accounts) -> None:
    await make_account(sandbox, tags={"team": "ml", "wandb-project": "p"})
    changed = await accounts.update_tags(await accounts.read(ALPHA), {"wandb-secret-name": "s"})
    assert changed.tags == {"team": "ml", "wandb-project": "p", "wandb-secret-name": "s"}
    assert (await accounts.read(ALPHA)).tags == changed.tags


async def test_answer_is_awaited_when_the_change_takes_a_second(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox)
    await sandbox.settings(lro_seconds=0.5)
    changed = await accounts.update_identity(await accounts.read(ALPHA), {})
    assert changed.settled
    assert changed.principal_id


async def test_not_ready_is_raised_when_the_change_takes_longer_than_a_call(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox)
    account = await accounts.read(ALPHA)
    await sandbox.settings(lro_seconds=30)
    with pytest.raises(NotReadyError):
        await accounts.update_identity(account, {})
    meanwhile = await accounts.read(ALPHA)
    assert not meanwhile.settled
    with pytest.raises(ConflictError):
        await accounts.update_tags(meanwhile, {"a": "b"})


async def test_only_openai_kinds_are_listed_over_all_pages(
    sandbox: Client, accounts: Accounts
) -> None:
    await sandbox.settings(page_size=2)
    for number in range(5):
        await make_account(sandbox, f"acc{number}", kind="AIServices" if number % 2 else "OpenAI")
    await make_account(sandbox, "speech", kind="SpeechServices")
    found = [item.name async for item in accounts.list_ids(SUBSCRIPTION)]
    assert sorted(found) == ["acc0", "acc1", "acc2", "acc3", "acc4"]


async def test_pause_is_given_back_when_it_is_longer_than_seconds(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox)
    await forget_requests(sandbox)
    await fault(sandbox, "arm", {"status": 429, "headers": {"Retry-After": "90"}}, times=5)
    with pytest.raises(ThrottledError) as caught:
        await accounts.read(ALPHA)
    assert caught.value.retry_after == 90.0
    assert len(await requests(sandbox)) == 1


async def test_read_succeeds_when_azure_stumbles_for_a_moment(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox)
    await fault(sandbox, "arm", {"status": 503}, times=1)
    await fault(sandbox, "arm", {"drop": "before"}, times=1)
    assert (await accounts.read(ALPHA)).id == ALPHA


@pytest.mark.parametrize("action", [{"status": 500}, {"drop": "before"}], ids=str)
async def test_unavailable_is_raised_when_azure_stays_away(
    sandbox: Client, accounts: Accounts, action: dict[str, object]
) -> None:
    await fault(sandbox, "arm", action, times=50)
    with pytest.raises(UnavailableError):
        await accounts.read(ALPHA)


async def test_redirect_is_not_followed(sandbox: Client, accounts: Accounts) -> None:
    await make_account(sandbox)
    target = {"Location": f"{sandbox.process.wandb_url}/stolen"}
    await fault(sandbox, "arm", {"status": 307, "headers": target}, times=5)
    with pytest.raises(RejectedError):
        await accounts.read(ALPHA)
    assert await requests(sandbox, "wandb") == []


async def test_id_is_the_resources_own_spelling_when_asked_in_another(
    sandbox: Client, accounts: Accounts
) -> None:
    await make_account(sandbox)
    asked = AccountId(ALPHA.subscription.upper(), ALPHA.group.upper(), ALPHA.name.upper())
    assert (await accounts.read(asked)).id == ALPHA
