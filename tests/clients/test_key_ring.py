"""The key that requests carry: always the recorded version, read from the vault once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from clients.key_ring import KeyRing
from clients.key_vault import KeyVault
from clients.transport import Transport
from model.errors import MissingError, UnavailableError
from model.key import KeyRecord
from model.secret import Secret
from tests.clients.azure_stage import (
    KEY,
    OTHER_KEY,
    SECRET,
    VAULT,
    fault,
    forget_requests,
    make_vault,
    put_secret,
    requests,
)
from tests.sandbox.stage import Client

pytestmark = pytest.mark.sandbox_only


class Records:
    """What the table would say, and how often it was asked."""

    def __init__(self) -> None:
        self.record: KeyRecord | None = None
        self.reads = 0

    async def read(self, vault_host: str, secret: str) -> KeyRecord | None:
        self.reads += 1
        return self.record


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
async def ring(sandbox: Client, transport: Transport, records: Records) -> AsyncIterator[KeyRing]:
    await make_vault(sandbox)
    vault = KeyVault(transport)
    yield KeyRing(records, vault)
    await vault.close()


async def in_use(sandbox: Client, records: Records, value: str) -> str:
    number = await put_secret(sandbox, value)
    records.record = KeyRecord(
        vault_host=VAULT.host, secret=SECRET, version=number, entity="team-a"
    )
    return number


async def test_recorded_version_is_given_and_not_the_newest(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    number = await in_use(sandbox, records, KEY)
    await put_secret(sandbox, OTHER_KEY)
    key = await ring.key_in_use(VAULT.host, SECRET)
    assert (key.version, key.entity, key.value) == (number, "team-a", Secret(KEY))
    assert KEY not in repr(key)


async def test_vault_is_asked_once_and_the_table_every_time(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.key_in_use(VAULT.host, SECRET)
    await forget_requests(sandbox)
    await asyncio.gather(*(ring.key_in_use(VAULT.host, SECRET) for _ in range(20)))
    assert await requests(sandbox, "vault") == []
    assert records.reads == 21


async def test_one_read_serves_all_when_many_ask_at_once(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, OTHER_KEY)
    await ring.key_in_use(VAULT.host, SECRET)
    number = await in_use(sandbox, records, KEY)
    await forget_requests(sandbox)
    found = await asyncio.gather(*(ring.key_in_use(VAULT.host, SECRET) for _ in range(20)))
    assert {item.version for item in found} == {number}
    assert len(await requests(sandbox, "vault")) == 1


async def test_next_request_carries_the_new_key_when_the_record_changes(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.key_in_use(VAULT.host, SECRET)
    await in_use(sandbox, records, OTHER_KEY)
    assert (await ring.key_in_use(VAULT.host, SECRET)).value == Secret(OTHER_KEY)


@pytest.mark.parametrize("known", [False, True])
async def test_missing_is_raised_with_a_remedy_when_no_version_was_accepted(
    sandbox: Client, ring: KeyRing, records: Records, known: bool
) -> None:
    await in_use(sandbox, records, KEY)
    assert records.record is not None
    records.record = (
        replace(records.record, version="", newest_cause="key_rejected") if known else None
    )
    with pytest.raises(MissingError) as caught:
        await ring.key_in_use(VAULT.host, SECRET)
    assert caught.value.code == ("key_rejected" if known else "key_unknown")
    assert caught.value.remedy


async def test_failure_is_not_kept(sandbox: Client, ring: KeyRing, records: Records) -> None:
    await in_use(sandbox, records, KEY)
    await fault(sandbox, "vault", {"status": 503}, times=4)
    with pytest.raises(UnavailableError):
        await ring.key_in_use(VAULT.host, SECRET)
    assert (await ring.key_in_use(VAULT.host, SECRET)).value == Secret(KEY)


async def test_vault_is_asked_again_when_the_ring_was_emptied(
    sandbox: Client, ring: KeyRing, records: Records
) -> None:
    await in_use(sandbox, records, KEY)
    await ring.key_in_use(VAULT.host, SECRET)
    ring.invalidate()
    await forget_requests(sandbox)
    await ring.key_in_use(VAULT.host, SECRET)
    assert len(await requests(sandbox, "vault")) == 1
